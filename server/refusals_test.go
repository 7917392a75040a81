package server

import (
	"slices"
	"testing"

	"github.com/firstseen/firstseen/schema"
)

// One payload fails a check, one is refused by the store, one came from a client that cannot be told.
func TestRefusalsAreShown(t *testing.T) {
	t.Parallel()
	r := start(t)
	poison := observationAt(2)
	r.store.answer = func(_ int, o *schema.Offer) (schema.Settlement, bool) {
		bad := o.Key == poison.Hash.Key() || string(o.Payload) == "poison"
		return schema.Settlement{Outcome: schema.Refused, Reason: "too long for the column"}, bad
	}
	relay, bare := r.dial(), r.dial()
	relay.greet()
	relay.send(data(1), dataOf(poison, "payload"), forged(3))
	relay.want("A1 f")
	relay.want("N2 data too long for the column")
	relay.wantPrefix("N3 header ")
	bare.send("good", "poison")
	eventually(t, "three refusals", func() bool { return len(r.srv.Refusals()) == 3 })

	got := r.srv.Refusals()
	slices.SortFunc(got, func(a, b Refusal) int { return int(a.Frame) - int(b.Frame) }) // the store answers when it likes
	for i, want := range []Refusal{
		{Mode: "bare", Key: schema.PayloadKey([]byte("poison")), Bytes: 6, Code: "data", Reason: "too long for the column"},
		{Mode: "relay", Observer: "paris-1", Frame: 2, Chain: 1, Key: poison.Hash.Key(), Bytes: len(data(2)), Code: "data",
			Reason: "too long for the column"},
		{Mode: "relay", Observer: "paris-1", Frame: 3, Bytes: len(forged(3)), Code: "header", Reason: got[2].Reason},
	} {
		if got[i].At.IsZero() || got[i].Remote == "" || got[i].Reason == "" {
			t.Errorf("refusal %d says too little: %+v", i, got[i])
		}
		want.At, want.Remote = got[i].At, got[i].Remote
		if got[i] != want {
			t.Errorf("refusal %d is %+v, want %+v", i, got[i], want)
		}
	}
	if n := r.metric("refused_frames_total"); n != 3 {
		t.Errorf("%v refusals counted, want 3", n)
	}
}

func TestOnlyTheNewestRefusalsAreKept(t *testing.T) {
	t.Parallel()
	s := &Server{}
	for i := range keepRefusals + 3 {
		s.refused.note(Refusal{Frame: uint64(i)})
	}
	got := s.Refusals()
	if len(got) != keepRefusals || got[0].Frame != keepRefusals+2 || got[len(got)-1].Frame != 3 {
		t.Errorf("%d refusals from %d to %d", len(got), got[len(got)-1].Frame, got[0].Frame)
	}
}
