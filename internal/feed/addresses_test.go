package feed

import (
	"testing"
	"time"

	"github.com/firstseen/firstseen/schema"
)

func TestAddressesAreLookedUpForWhoAsks(t *testing.T) {
	t.Parallel()
	a := schema.Address{7}
	rows := newTable()
	rows.who = map[schema.Key][]schema.Address{"k2": {a}, "k5": {a}}
	rows.add(blocks(3)...)
	f := running(t, Options{Source: rows, Poll: 5 * time.Millisecond})
	s := subscribe(t, f, Filter{Addresses: []schema.Address{a}}, Place{})
	if got := take(t, s, 1); got != "2" {
		t.Errorf("history %s", got)
	}
	rows.add(block(4), block(5), block(6))
	if got := take(t, s, 1); got != "5" {
		t.Errorf("live %s", got)
	}
}

func TestWhoAsksForAddressesMissesNothingThatIsJustRead(t *testing.T) {
	t.Parallel()
	a := schema.Address{1}
	rows := &heldUp{table: newTable(), found: make(chan struct{}), goOn: make(chan struct{})}
	rows.who = map[schema.Key][]schema.Address{"k1": {a}}
	f := running(t, Options{Source: rows, Poll: 5 * time.Millisecond})
	eventually(t, "started", func() bool { return f.Ready(t.Context()) == nil })
	rows.add(block(1))
	<-rows.found // before anybody asks for addresses
	s := subscribe(t, f, Filter{Addresses: []schema.Address{a}}, Place{Latest: true})
	rows.goOn <- struct{}{}
	if got := take(t, s, 1); got != "1" {
		t.Errorf("got %s", got)
	}
}
