package store

import (
	"sync/atomic"
	"testing"

	"github.com/firstseen/firstseen/schema"
)

func TestCommitsTellHowFarTheFeedReaches(t *testing.T) {
	t.Parallel()
	var told atomic.Uint64
	s := opened(t, Options{DSN: "memory", Committed: func(seq uint64) { told.Store(seq) }})
	if err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	running(t, s)
	for range 2 { // a duplicate is no news
		done := make(chan schema.Settlement, 1)
		offer := &schema.Offer{Key: schema.PayloadKey([]byte("x")), Payload: []byte("x"), ReceivedAt: s.now()}
		if err := s.Offer(t.Context(), offer, func(a schema.Settlement) { done <- a }); err != nil {
			t.Fatal(err)
		}
		<-done
		if got := told.Load(); got != 1 {
			t.Errorf("told %d, the feed ends at 1", got)
		}
	}
}
