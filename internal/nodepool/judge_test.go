package nodepool

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/firstseen/firstseen/schema"
)

func TestASingleNodeIsEnoughAndMarked(t *testing.T) {
	t.Parallel()
	b := seat(t, 1, nil)
	b.picks("")
	b.says(0, 'a', 50)
	b.is(0, schema.NodeReady)
	b.tipIs(50, false)
	b.picks("a")
	if v := b.Views()[0]; !strings.Contains(v.Reason, "uncorroborated") || *v.Height != 50 || *v.Lag != 0 {
		t.Errorf("view %+v", v)
	}
	b.pass(time.Hour)
	b.is(0, schema.NodeQuarantined)
	for range 3 { // after a pause much longer than any walk of parents
		b.says(0, 'a', 5000)
	}
	b.is(0, schema.NodeReady)
	b.tipIs(5000, false)
}

func TestNothingCountsBeforeEveryNodeWasAskedOnce(t *testing.T) {
	t.Parallel()
	b := seat(t, 3, nil)
	b.says(0, 'z', 30_000_000)
	if _, _, ok := b.Tip(); ok {
		t.Error("a tip by one of three")
	}
	b.says(1, 'a', 50)
	b.says(2, 'a', 50)
	b.tipIs(50, true)
	b.picks("b")
}

func TestANodeMillionsAheadChangesNothing(t *testing.T) {
	t.Parallel()
	b := seat(t, 4, nil)
	b.all(50)
	for i := range uint64(3) {
		b.says(3, 'z', 30_000_000+i)
		for n := range 3 {
			b.says(n, 'a', 51+i)
		}
		b.pass(time.Second)
		b.tipIs(51+i, true)
		b.picks("a")
	}
	b.is(3, schema.NodeQuarantined)
	if err := b.Ready(t.Context()); err != nil {
		t.Error(err)
	}
	for range 10 {
		b.says(3, 'z', 30_000_100)
		b.is(3, schema.NodeQuarantined)
	}
	// Even when it is the last one that answers.
	for range 3 {
		for n := range 3 {
			b.fails(n)
		}
		b.says(3, 'z', 30_000_100)
	}
	b.tipIs(53, false)
	b.picks("")
	// Back on the chain, it is taken back.
	for range 3 {
		b.says(3, 'a', 54)
	}
	b.is(3, schema.NodeReady)
}

func TestTenBehindIsOutAndThreeGoodProbesBringBack(t *testing.T) {
	t.Parallel()
	b := seat(t, 3, nil)
	b.all(50)
	step := func(head, straggler uint64) {
		b.says(0, 'a', head)
		b.says(1, 'a', head)
		b.says(2, 'a', straggler)
		b.pass(time.Second)
	}
	step(59, 50)
	b.is(2, schema.NodeReady)
	step(60, 50)
	b.is(2, schema.NodeLagging)
	if v := b.Views()[2]; !strings.Contains(v.Reason, "10 blocks behind") || *v.Lag != 10 {
		t.Errorf("view %+v", v)
	}
	step(60, 57) // within the limit, but not near
	b.is(2, schema.NodeLagging)
	step(61, 59)
	step(62, 60)
	step(63, 60) // 3 behind: the count begins anew
	step(64, 62)
	step(65, 63)
	b.is(2, schema.NodeLagging)
	step(66, 64)
	b.is(2, schema.NodeReady)
}

func TestTheLastLiveNodeIsNeverOutForLagAlone(t *testing.T) {
	t.Parallel()
	b := seat(t, 2, func(o *Options) { o.Reference = "http://reference.example" })
	tell := func(a, c, ref uint64) {
		b.heard(b.reference, block('a', ref), false)
		b.says(0, 'a', a)
		b.says(1, 'a', c)
		b.pass(time.Second)
	}
	tell(50, 50, 50)
	tell(50, 50, 70)
	b.is(0, schema.NodeLagging)
	b.is(1, schema.NodeReady)
	b.tipIs(70, true)
	b.picks("b")
	if v := b.Views()[1]; !strings.Contains(v.Reason, "degraded") || *v.Lag != 20 {
		t.Errorf("view %+v", v)
	}
	tell(60, 50, 71) // the other one is better now
	tell(60, 50, 71)
	b.picks("a")
	b.is(1, schema.NodeLagging)
	tell(70, 50, 71)
	tell(71, 50, 71)
	tell(71, 50, 71)
	b.is(0, schema.NodeReady)
	if v := b.Views()[0]; v.Reason != "" {
		t.Errorf("view %+v", v)
	}
}

func TestOneOfSeveralLeftGoesOn(t *testing.T) {
	t.Parallel()
	b := seat(t, 3, nil)
	b.all(50)
	for i := range uint64(20) {
		b.fails(1)
		b.fails(2)
		b.says(0, 'a', 51+i)
		b.pass(time.Second)
	}
	b.is(1, schema.NodeQuarantined)
	b.tipIs(70, false)
	b.picks("a")
	if err := b.Ready(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestALoneLiarDoesNotOutliveTheReturnOfTheOthers(t *testing.T) {
	t.Parallel()
	b := seat(t, 4, nil)
	b.all(50)
	for range 3 {
		for n := range 3 {
			b.fails(n)
		}
		b.says(3, 'a', 50)
		b.pass(time.Second)
	}
	b.says(3, 'z', 30_000_000) // who could contradict?
	for range 8 {
		for n := range 3 {
			b.says(n, 'a', 60)
		}
		b.says(3, 'z', 30_000_000)
		b.pass(time.Second)
	}
	b.tipIs(60, true)
	b.is(0, schema.NodeReady)
	b.is(3, schema.NodeQuarantined)
	b.picks("a")
}

func TestAllComeBackFromAnOutageThatTheChainOutgrew(t *testing.T) {
	t.Parallel()
	b := seat(t, 2, nil)
	b.all(50)
	for range 5 {
		b.fails(0)
		b.fails(1)
		b.pass(time.Second)
	}
	for range 4 { // each fails in between, so that neither has proved itself when the other is looked at
		b.says(0, 'a', 5000)
		b.fails(1)
		b.fails(1)
		b.fails(1)
		b.pass(time.Second)
		b.says(1, 'a', 5000)
		b.fails(0)
		b.fails(0)
		b.fails(0)
		b.pass(time.Second)
	}
	for range 4 {
		b.all(5001)
	}
	b.is(0, schema.NodeReady)
	b.is(1, schema.NodeReady)
	b.tipIs(5001, true)
}

func TestOneThatWasOverruledGoesOnWhenTheMajorityIsGone(t *testing.T) {
	t.Parallel()
	b := seat(t, 3, nil)
	b.all(50)
	for range 4 {
		b.says(0, 'a', 50)
		b.says(1, 'a', 50)
		b.says(2, 'a', 500)
		b.pass(time.Second)
	}
	b.is(2, schema.NodeQuarantined)
	for range 25 {
		b.fails(0)
		b.fails(1)
		b.says(2, 'a', 501)
		b.pass(time.Second)
	}
	b.is(2, schema.NodeReady)
}

func TestWithoutAMajorityTheTipFreezesAndReadySaysSo(t *testing.T) {
	t.Parallel()
	b := seat(t, 2, nil)
	b.all(50)
	for i := range uint64(40) { // a goes on alone, b stays: who is right?
		b.says(0, 'a', 51+i)
		b.says(1, 'a', 50)
		b.pass(time.Second)
	}
	b.tipIs(50, true)
	b.picks("a") // it comes from the tip block by block, so it can be relayed
	if err := b.Ready(t.Context()); err == nil || !strings.Contains(err.Error(), "no majority for the tip") {
		t.Errorf("ready: %v", err)
	}
	b.says(1, 'a', 90)
	b.tipIs(90, true)
	if err := b.Ready(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestTheReferenceDecides(t *testing.T) {
	t.Parallel()
	b := seat(t, 2, func(o *Options) { o.Reference = "http://reference.example" })
	for i := range uint64(30) {
		b.heard(b.reference, block('a', 50+i), false)
		b.says(0, 'a', 50+i)
		b.says(1, 'a', 50)
		b.pass(time.Second)
	}
	b.tipIs(79, true)
	b.is(1, schema.NodeLagging)
	if len(b.Views()) != 2 || len(b.Serving()) != 1 {
		t.Errorf("the reference is listed, or served from: %+v", b.Views())
	}
}

func TestThreeFailuresPutOutAndOneOnlyMakesWay(t *testing.T) {
	t.Parallel()
	b := seat(t, 2, nil)
	b.all(50)
	b.picks("a")
	b.fails(0)
	b.is(0, schema.NodeReady)
	b.picks("b")
	b.says(0, 'a', 50)
	b.picks("b") // sticky
	b.fails(0)
	b.fails(0)
	b.is(0, schema.NodeReady)
	b.fails(0)
	b.is(0, schema.NodeQuarantined)
	if v := b.Views()[0]; v.Height != nil || !strings.Contains(v.Reason, "connection refused") {
		t.Errorf("view %+v: an error is no height", v)
	}
	b.says(0, 'a', 50)
	b.is(0, schema.NodeProbation)
	b.says(0, 'a', 50)
	b.is(0, schema.NodeProbation)
	b.says(0, 'a', 50)
	b.is(0, schema.NodeReady)
}

func TestSilenceOfThreeIntervalsIsNotReady(t *testing.T) {
	t.Parallel()
	b := seat(t, 2, nil)
	b.all(50)
	for range 3 {
		b.says(1, 'a', 50)
		b.pass(time.Second)
	}
	b.is(0, schema.NodeQuarantined)
	b.is(1, schema.NodeReady)
}

func TestReorgMovesTheTipToTheOtherBranch(t *testing.T) {
	t.Parallel()
	b := seat(t, 3, nil)
	b.all(103)
	b.says(0, 'b', 103) // one leaves: nothing happens
	if tip, _, _ := b.Tip(); tip.Hash != block('a', 103).Hash {
		t.Error("the tip followed one node")
	}
	b.says(1, 'b', 103)
	b.pass(time.Second)
	if tip, _, _ := b.Tip(); tip.Hash != block('b', 103).Hash {
		t.Error("the tip did not follow two of three")
	}
	b.says(2, 'b', 104)
	b.all(104)
}

func TestRollbackOfAllLowersTheTipAndTheLossOfOneDoesNot(t *testing.T) {
	t.Parallel()
	b := seat(t, 3, nil)
	b.all(50)
	b.says(0, 'a', 55)
	b.says(1, 'a', 55)
	b.says(2, 'a', 52)
	b.tipIs(55, true)
	for range 3 {
		b.fails(1)
	}
	b.says(2, 'a', 52)
	b.tipIs(55, true)
	b = seat(t, 3, nil)
	b.all(50)
	for i := range 3 {
		b.says(i, 'a', 20)
	}
	b.tipIs(20, true)
}

func TestForgedAndInconsistentHeadsAreQuarantined(t *testing.T) {
	t.Parallel()
	b := seat(t, 3, nil)
	b.all(50)
	wrong := block('a', 52)
	wrong.Parent = block('a', 50).Hash // skips a height
	b.heard(b.nodes[0], wrong, false)
	b.is(0, schema.NodeQuarantined)
	old := block('a', 51)
	old.Time = block('a', 49).Time
	b.heard(b.nodes[1], old, false)
	b.is(1, schema.NodeQuarantined)
	future := block('a', 51)
	future.Time = b.now.Add(48 * time.Hour)
	b.heard(b.nodes[2], future, false)
	b.is(2, schema.NodeQuarantined)
}

func TestWrongChainNeedsAnOperator(t *testing.T) {
	t.Parallel()
	b := seat(t, 2, nil)
	b.all(50)
	b.missed(b.nodes[0], b.compare(b.nodes[0], 8))
	for range 5 {
		b.says(0, 'a', 50)
		b.is(0, schema.NodeWrongChain)
	}
	if v := b.Views()[0]; v.Chain != 8 || v.Height != nil {
		t.Errorf("view %+v", v)
	}
	if err := b.Uncordon("a"); err != nil {
		t.Fatal(err)
	}
	b.is(0, schema.NodeUnknown)
	b.says(0, 'a', 50)
	b.is(0, schema.NodeReady)
	if err := b.Uncordon("nobody"); err == nil {
		t.Error("a node that is not there")
	}
}

func TestACordonedNodeIsNotUsedAndStillCounts(t *testing.T) {
	t.Parallel()
	b := seat(t, 2, nil)
	b.all(50)
	b.picks("a")
	if err := b.Cordon("a"); err != nil {
		t.Fatal(err)
	}
	b.picks("b")
	b.all(51)
	b.tipIs(51, true)
	if s := b.Serving(); len(s) != 1 || s[0].Name != "b" || !b.Views()[0].Cordoned {
		t.Errorf("serving %+v, views %+v", s, b.Views())
	}
}

func TestPinnedNodeOrNone(t *testing.T) {
	t.Parallel()
	b := seat(t, 3, func(o *Options) { o.Pin = "c" })
	b.all(50)
	b.picks("c")
	for range 3 {
		b.fails(2)
	}
	b.picks("")
}

func TestPickLeavesANodeThatIsOutrunOrFaulty(t *testing.T) {
	t.Parallel()
	b := seat(t, 3, nil)
	b.all(50)
	b.picks("a")
	b.says(1, 'a', 52)
	b.says(2, 'a', 52)
	b.says(0, 'a', 50)
	b.picks("a") // 2 behind: not worth a change
	b.says(1, 'a', 53)
	b.says(0, 'a', 50)
	b.picks("b")
	b.Fault(b.nodes[1], errDown)
	b.picks("c")
	b.Fault(b.nodes[1], errDown)
	b.Fault(b.nodes[1], errDown)
	b.is(1, schema.NodeQuarantined)
}

type busy struct{ error }

func (busy) RetryAfter() time.Duration { return time.Minute }

func TestRetryAfterAndBreakerLeaveANodeAlone(t *testing.T) {
	t.Parallel()
	b := seat(t, 2, nil)
	b.all(50)
	b.Report("a", busy{errors.New("429")})
	b.picks("b")
	if got := b.pause(b.nodes[0]); got != time.Minute {
		t.Errorf("next probe in %s", got)
	}
	b = seat(t, 2, nil)
	b.all(50)
	for range 9 {
		b.Report("a", errDown)
	}
	b.Report("a", nil)
	for range 9 {
		b.Report("a", errDown)
	}
	if s := b.Serving(); len(s) != 2 {
		t.Errorf("serving %+v", s)
	}
	b.Report("a", errDown)
	if s := b.Serving(); len(s) != 1 {
		t.Errorf("serving %+v", s)
	}
	for range 10 {
		b.all(50)
	}
	if s := b.Serving(); len(s) != 2 {
		t.Errorf("serving %+v", s)
	}
}

func TestUpstreamsCarryCredentialsInAHeader(t *testing.T) {
	t.Parallel()
	b := seat(t, 1, func(o *Options) {
		o.Nodes = []string{"a=http://user:pass@node.example/v3|ws://user:pass@node.example/ws"}
	})
	b.all(50)
	u := b.Serving()[0]
	if u.URL != "http://node.example/v3" || u.WS != "ws://node.example/ws" ||
		u.Header.Get("Authorization") != "Basic dXNlcjpwYXNz" || u.Height != 50 {
		t.Errorf("%+v", u)
	}
}

func TestEventsAreGivenOnceAndBounded(t *testing.T) {
	t.Parallel()
	b := seat(t, 1, nil)
	b.all(50)
	got := b.Events(1)
	got = append(got, b.Events(10)...)
	if len(got) != 2 || got[0].From != schema.NodeUnknown || got[0].To != schema.NodeLive ||
		got[1].To != schema.NodeReady || got[1].Node != "a" || got[1].Chain != 7 || got[1].Reason == "" || !got[1].At.Equal(time.Unix(1_700_000_000, 0)) {
		t.Errorf("%+v", got)
	}
	if again := b.Events(10); len(again) != 0 {
		t.Errorf("again: %+v", again)
	}
	for range maxEvents {
		for range 3 {
			b.fails(0)
		}
		for range 3 {
			b.says(0, 'a', 50)
		}
	}
	if len(b.events) != maxEvents || b.overflow != 2*maxEvents {
		t.Errorf("%d events, %d forgotten", len(b.events), b.overflow)
	}
}
