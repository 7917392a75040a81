package presence

import (
	"strings"
	"testing"
	"time"
)

// drawing plays readings to a view, one each second, and keeps its clock.
type drawing struct {
	t    *testing.T
	now  time.Time
	view *view
	seq  map[string]uint64
}

func draw(t *testing.T) *drawing {
	return &drawing{
		t: t, now: time.Unix(1_700_000_000, 0), seq: map[string]uint64{},
		view: newView(5*time.Second, 6*time.Second),
	}
}

// fresh returns a beat that differs from the server's last one.
func (d *drawing) fresh(server string, count int) Beat {
	d.seq[server]++
	return Beat{Server: server, Boot: "boot", Seq: d.seq[server], Count: count}
}

func (d *drawing) read(beats ...Beat) { d.view.good(d.now, reading{epoch: "run", beats: beats}) }

// for reads every second for n seconds what beats returns.
func (d *drawing) during(n int, beats func() []Beat) {
	for range n {
		d.now = d.now.Add(time.Second)
		d.read(beats()...)
	}
}

func (d *drawing) settled(beats ...Beat) *drawing {
	d.read(beats...)
	d.during(6, func() []Beat { return beats })
	return d
}

func (d *drawing) wantTotal(want int) {
	d.t.Helper()
	if s := d.view.snapshot(d.now); !s.Known || s.Total != want || s.Reason != "" {
		d.t.Fatalf("got %+v, want a known total of %d", s, want)
	}
}

func (d *drawing) wantUnknown(reason string) {
	d.t.Helper()
	s := d.view.snapshot(d.now)
	if s.Known || s.Total != 0 || !strings.Contains(s.Reason, reason) {
		d.t.Fatalf("got %+v, want unknown because %q", s, reason)
	}
}

func TestTotalIsUnknownForABeatAfterTheFirstReading(t *testing.T) {
	t.Parallel()
	d := draw(t)
	d.wantUnknown("no reading yet")
	both := func() []Beat { return []Beat{d.fresh("a", 2), d.fresh("b", 3)} }
	d.read(both()...)
	d.wantUnknown("servers report within 6s")
	d.during(5, both)
	d.wantUnknown("reading for 5s")
	d.during(1, both)
	d.wantTotal(5)
}

func TestServerDiesAfterThreeBeatsWithoutChange(t *testing.T) {
	t.Parallel()
	d := draw(t)
	stuck := d.fresh("a", 2)
	d.settled(stuck, d.fresh("b", 3))
	d.during(8, func() []Beat { return []Beat{stuck, d.fresh("b", 3)} })
	d.wantTotal(5)
	// Its key stays for as long as the board's clock pleases, an hour if that goes back: it must not come to life.
	d.during(60, func() []Beat { return []Beat{stuck, d.fresh("b", 3)} })
	d.wantTotal(3)
	d.during(1, func() []Beat { return []Beat{d.fresh("a", 2), d.fresh("b", 3)} })
	d.wantTotal(5)
}

func TestLostKeyIsCountedUntilTheServersNextBeat(t *testing.T) {
	t.Parallel()
	d := draw(t).settled()
	beats := func() []Beat { return []Beat{d.fresh("a", 2), d.fresh("b", 3)} }
	d.during(7, beats)
	d.wantTotal(5)
	d.during(4, func() []Beat { return []Beat{d.fresh("b", 3)} })
	d.wantTotal(5)
	d.during(1, beats)
	d.wantTotal(5)
	d.during(15, func() []Beat { return []Beat{d.fresh("b", 3)} })
	d.wantTotal(3)
}

func TestFarewellIsBelievedAtOnce(t *testing.T) {
	t.Parallel()
	d := draw(t)
	d.settled(d.fresh("a", 2), d.fresh("b", 3))
	bye := d.fresh("a", 0)
	bye.Left = true
	d.during(1, func() []Beat { return []Beat{bye, d.fresh("b", 3)} })
	d.wantTotal(3)
}

func TestFarewellOfAReplacedBootDoesNotEndItsSuccessor(t *testing.T) {
	t.Parallel()
	d := draw(t)
	d.settled(d.fresh("a", 2))
	d.during(1, func() []Beat { return []Beat{{Server: "a", Boot: "next", Seq: 1, Count: 7}} })
	bye := d.fresh("a", 0)
	bye.Left = true
	d.during(1, func() []Beat { return []Beat{bye, d.fresh("b", 3)} })
	d.wantTotal(10)
}

func TestRestartWithTheSameSeqIsAChange(t *testing.T) {
	t.Parallel()
	d := draw(t)
	d.settled(Beat{Server: "a", Boot: "one", Seq: 1, Count: 2})
	d.during(8, func() []Beat { return []Beat{{Server: "a", Boot: "one", Seq: 1, Count: 2}} })
	d.during(14, func() []Beat { return []Beat{{Server: "a", Boot: "two", Seq: 1, Count: 4}} })
	d.wantTotal(4)
}

func TestTwoServersOfOneNameMakeTheTotalUnknown(t *testing.T) {
	t.Parallel()
	d := draw(t)
	d.settled(d.fresh("a", 2))
	boots := []string{"one", "two"}
	i := 0
	d.during(4, func() []Beat {
		i++
		return []Beat{{Server: "a", Boot: boots[i%2], Seq: uint64(i), Count: i}}
	})
	d.wantUnknown("two servers call themselves a")
	d.during(15, func() []Beat { return []Beat{d.fresh("a", 2)} })
	d.wantTotal(2)
}

func TestNoServerIsUnknownAndSoIsTheBeatAfter(t *testing.T) {
	t.Parallel()
	d := draw(t).settled()
	d.wantUnknown("no server reports")
	d.during(5, func() []Beat { return []Beat{d.fresh("a", 2)} })
	d.wantUnknown("reading for 5s")
	d.during(1, func() []Beat { return []Beat{d.fresh("a", 2)} })
	d.wantTotal(2)

	// The board is emptied: the first server to come back is not everybody.
	d.during(1, func() []Beat { return nil })
	d.wantUnknown("no server reports")
	d.during(1, func() []Beat { return []Beat{d.fresh("a", 2)} })
	d.wantUnknown("reading for 1s")
}

func TestDeadServersOnlyIsUnknownNotZero(t *testing.T) {
	t.Parallel()
	d := draw(t)
	stuck := d.fresh("a", 2)
	d.settled(stuck).during(30, func() []Beat { return []Beat{stuck} })
	d.wantUnknown("no server reports")
}

func TestNothingKnownBeforeCountsAfterAnInterruption(t *testing.T) {
	t.Parallel()
	interruptions := map[string]func(d *drawing){
		"board unreachable": func(d *drawing) {
			d.view.bad("the presence store cannot be read")
			d.wantUnknown("cannot be read")
			d.now = d.now.Add(time.Second)
			d.read(d.fresh("b", 3))
		},
		"new run id": func(d *drawing) {
			d.now = d.now.Add(time.Second)
			d.view.good(d.now, reading{epoch: "other", beats: []Beat{d.fresh("b", 3)}})
			d.view.epoch = "run"
		},
		"the reader itself was stopped": func(d *drawing) {
			d.now = d.now.Add(30 * time.Second)
			d.wantUnknown("no reading for 30s")
			d.read(d.fresh("b", 3))
		},
	}
	for name, interrupt := range interruptions {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := draw(t)
			d.settled(d.fresh("a", 2), d.fresh("b", 3))
			d.wantTotal(5)
			interrupt(d)
			d.wantUnknown("reading for 0s")
			d.during(6, func() []Beat { return []Beat{d.fresh("b", 3)} })
			d.wantTotal(3)
		})
	}
}
