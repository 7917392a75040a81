package replica

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/firstseen/firstseen/internal/objects"
	"github.com/firstseen/firstseen/internal/testenv"
	"github.com/firstseen/firstseen/schema"
)

// running runs a Shipper over a folder until stop is called.
func (p *press) running(folder objects.Store) (s *Shipper, stop func()) {
	p.t.Helper()
	s, err := NewShipper(ShipOptions{
		Names: p.names, Store: p.store, Objects: folder, Holder: "test", Poll: 5 * time.Millisecond, sizes: smallSizes,
		Digest: 5 * time.Millisecond,
	})
	if err != nil {
		p.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	return s, func() {
		cancel()
		if err := <-done; err != nil {
			p.t.Errorf("Run: %v", err)
		}
	}
}

func TestAReplicaHasWhatAStoreShipped(t *testing.T) {
	t.Parallel()
	p, replica := newPress(t), openStore(t, "memory", false)
	folder, err := objects.Open(t.Context(), "file:"+t.TempDir(), objects.Options{Writer: true})
	if err != nil {
		t.Fatal(err)
	}
	f, _ := p.follow(replica, func(o *FollowOptions) { o.Objects = folder })
	p.grow("a", 1, 40, "a0") // a backlog
	for i := range uint64(5) {
		_, stop := p.running(folder)
		from := 41 + 4*i
		p.grow("a", from, from+3, fmt.Sprint("a", from-1))
		p.grow("b", from, from+1, fmt.Sprint("a", from-1))
		p.see(from+1, fmt.Sprint("b", from+1))
		stop() // wherever it is
		p.see(from+3, fmt.Sprint("a", from+3))
	}
	s, stop := p.running(folder)
	defer stop()
	end, err := p.store.FeedEnd(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, func() error {
		if st := f.State(); st.Seq != end.Seq || st.Phase != schema.ReplicaFollowing {
			return fmt.Errorf("at %d of %d, %s: %s; shipped %+v", st.Seq, end.Seq, st.Phase, st.Reason, s.Stats())
		}
		return nil
	})
	p.same(replica)
}
