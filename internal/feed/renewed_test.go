package feed

import (
	"errors"
	"testing"
	"time"
)

// renew gives the log a new epoch and adds rows.
func (t *table) renew(epoch string, rows int) {
	t.change(func() { t.was, t.since, t.epoch = t.epoch, uint64(len(t.rows)), epoch })
	t.add(blocks(rows)...)
}

func TestALogUnderANewEpochGoesOnWhereItWas(t *testing.T) {
	t.Parallel()
	rows := newTable()
	rows.add(blocks(5)...)
	f := running(t, Options{Source: rows, Recent: 2, Poll: 10 * time.Millisecond})
	live := subscribe(t, f, Filter{}, Place{Cursor: Cursor{"e0", 4}})
	if got := take(t, live, 1); got != "5" {
		t.Fatal(got)
	}
	rows.change(func() { rows.err = errors.New("away") }) // so that it is renewed between two looks
	rows.change(func() { rows.was, rows.since, rows.epoch, rows.err = "e0", 5, "e1", nil })
	if got := take(t, live, 1); got != "[0-0]" || live.Cursor().String() != "e1.5" {
		t.Errorf("live: %s, cursor %s", got, live.Cursor())
	}
	rows.add(blocks(2)...)
	if got := take(t, live, 2); got != "6 7" || live.Cursor().String() != "e1.7" {
		t.Errorf("live, what comes then: %s, cursor %s", got, live.Cursor())
	}
	for name, c := range map[string]struct {
		from Cursor
		n    int
		want string
	}{
		"who saw nothing of what was undone": {Cursor{"e0", 3}, 4, "4 5 6 7"},
		"who was at the turn":                {Cursor{"e0", 5}, 2, "6 7"},
		"who saw more elsewhere":             {Cursor{"e0", 6}, 3, "[0-0] 6 7"},
		"who comes back":                     {Cursor{"e1", 6}, 1, "7"},
		"another database's reader":          {Cursor{"ff", 6}, 8, "[0-0] 1 2 3 4 5 6 7"},
	} {
		s := subscribe(t, f, Filter{}, Place{Cursor: c.from})
		if got := take(t, s, c.n); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

func TestNoRowComesTwiceToWhoSeesTheTurn(t *testing.T) {
	t.Parallel()
	rows := newTable()
	rows.add(blocks(3)...)
	f := running(t, Options{Source: rows, Poll: 10 * time.Millisecond})
	s := subscribe(t, f, Filter{}, Place{Cursor: Cursor{"e0", 2}})
	rows.renew("e1", 2)
	var got string
	for s.Cursor().String() != "e1.5" {
		got += take(t, s, 1) + " "
	}
	// The look that finds the new rows may be the one before the epoch is.
	if got != "3 [0-0] 4 5 " && got != "3 4 5 [0-0] " && got != "3 4 [0-0] 5 " {
		t.Error(got)
	}
}

func TestPagesGoOnUnderANewEpoch(t *testing.T) {
	t.Parallel()
	rows := newTable()
	rows.add(blocks(4)...)
	rows.renew("e1", 2)
	events, next, _, err := Page(t.Context(), rows, Filter{}, Cursor{"e0", 3}, 10)
	if err != nil || len(events) != 3 || events[0].Seq != 4 || next.String() != "e1.6" {
		t.Errorf("%d events, next %s, %v", len(events), next, err)
	}
	if _, _, _, err := Page(t.Context(), rows, Filter{}, Cursor{"e0", 5}, 10); !errors.Is(err, ErrOtherFeed) {
		t.Errorf("beyond the turn: %v", err)
	}
}
