package replica

import (
	"fmt"
	"testing"
	"time"

	"github.com/firstseen/firstseen/internal/testenv"
	"github.com/firstseen/firstseen/schema"
)

// The feed stands still: who else saw its last block comes by the side object.
func TestSightingsOfTheLastBlockComeWithoutAnotherRow(t *testing.T) {
	t.Parallel()
	f, o, clock := newDrawnFeed(), newShelf(), &testClock{}
	s := newTestShipper(t, f, o, clock)
	last := f.block(5, 1)
	shipped(t, s)
	f.mu.Lock()
	f.sightings = append(f.sightings, schema.ShippedSighting{Chain: 1, Key: last.Key, Observer: "late", ReceivedAt: f.now()})
	f.mu.Unlock()
	clock.advance(time.Minute)
	shipped(t, s)
	side := func() *Side {
		got, err := DecodeSide([]byte(o.held[testNames.Side()]))
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	if got := side(); len(got.Sightings) != 1 || got.Sightings[0].Observer != "late" || got.Seq != s.look().seq {
		t.Errorf("got %+v", got)
	}
	f.status(last)
	shipped(t, s)
	if got := side(); len(got.Sightings) != 0 {
		t.Errorf("a segment has them, and the side object still: %+v", got.Sightings)
	}
}

func TestAReplicaTakesSightingsFromTheSideObject(t *testing.T) {
	t.Parallel()
	p, s := newPress(t), openStore(t, "memory", false)
	p.grow("a", 1, 3, "a0")
	p.ship(10)
	side := Side{Epoch: 1, Side: schema.Side{At: p.at}, Seq: p.check.Seq, Sightings: []schema.ShippedSighting{{Chain: pressChain,
		Key: blockHash("a3").Key(), Observer: "late", Node: "n2", Server: "s1", Origin: schema.OriginHead, ObservedAt: p.at.UTC(), ReceivedAt: p.at.UTC()}}}
	body, err := EncodeSide(side)
	if err != nil {
		t.Fatal(err)
	}
	p.depot.put(p.names.Side(), body)
	f, _ := p.follow(s, nil)
	p.reaches(f, s)
	testenv.Eventually(t, func() error {
		got, _, err := s.SightingsSince(t.Context(), time.Time{}, 10)
		if err == nil && (len(got) != 1 || got[0] != side.Sightings[0]) {
			err = fmt.Errorf("got %+v", got)
		}
		return err
	})
	p.grow("a", 4, 4, "a3")
	p.ship(10)
	p.reaches(f, s)
}
