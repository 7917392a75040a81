package statsapi

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"testing"
	"testing/synctest"

	"github.com/firstseen/firstseen/internal/feed"
	"github.com/firstseen/firstseen/schema"
)

// stored is what the event store's sockets say, of blocks and of deploys.
type stored struct {
	BlockHash, State, DeployHash, Account string
	Height                                uint64
	Deploys                               []string
}

func (l *listener) hearStored() stored {
	l.t.Helper()
	_, text, err := l.conn.Read(l.t.Context())
	if err != nil {
		l.t.Fatal(err)
	}
	var m stored
	if err := json.Unmarshal(text, &m); err != nil {
		l.t.Fatalf("%s: %v", text, err)
	}
	return m
}

func TestEventStoreSocketsTellWhatTheirPagesShow(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.grow(1)
	s := serveLive(t, w, feed.Options{}, Options{})
	sender := schema.Address{0xaa}
	blocks, block := s.listen("/blocks"), s.listen("/block/"+named("b3").String())
	deploy, account := s.listen("/deploy/"+named("t1").String()), s.listen("/accountDeploys/"+sender.String())
	eventually(t, "four subscriptions", func() bool { return s.api.live.followers.Load() == 4 })
	w.see("alice", 5, 2, "b2", "b1", schema.Transaction{Hash: named("t1"), From: sender, Value: "1"},
		schema.Transaction{Hash: named("t2"), Index: 1, From: schema.Address{0xbb}, To: &sender, Value: "1"})
	w.see("alice", 5, 3, "b3", "b2")
	for n, want := range []string{"b2", "b3"} {
		m := blocks.hearStored()
		if m.BlockHash != named(want).String() || m.Height != uint64(n+2) || m.State != "canonical" {
			t.Errorf("block %+v, want %s", m, want)
		}
	}
	if m := block.hearStored(); m.BlockHash != named("b3").String() {
		t.Errorf("the one block: %+v", m)
	}
	for name, l := range map[string]*listener{"deploy": deploy, "account": account} {
		if m := l.hearStored(); m.DeployHash != named("t1").String() || m.Account != sender.String() || m.State != "canonical" {
			t.Errorf("%s: %+v", name, m)
		}
	}
	final := schema.Point{Number: 3, Hash: named("b3")}
	w.report("alice", 5, final, final)
	if m := block.hearStored(); m.State != "safe" && m.State != "finalized" {
		t.Errorf("the one block became %+v", m)
	}
	if got := s.get("/blocks"); got.StatusCode != http.StatusOK {
		t.Errorf("the page: %d", got.StatusCode)
	}
}

func TestEventStoreSocketsRefuseWhatIsNoChain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.grow(1)
	s := serveLive(t, w, feed.Options{}, Options{})
	for chain, want := range map[string]int{
		"5": http.StatusSwitchingProtocols, "": http.StatusSwitchingProtocols, "x": http.StatusBadRequest,
		"0": http.StatusBadRequest, "-5": http.StatusBadRequest, "99999999999999999999": http.StatusBadRequest,
	} {
		for _, path := range []string{"/blocks", "/block/" + named("b1").String()} {
			if got := s.status(path+"?chain="+chain, upgrade()); got != want {
				t.Errorf("%s of chain %q: %d, want %d", path, chain, got, want)
			}
		}
	}
}

// hungStore never answers by itself.
type hungStore struct{ Store }

func (hungStore) TransactionHashes(ctx context.Context, _ []schema.Key) (map[schema.Key][]schema.Hash, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func (hungStore) Headers(ctx context.Context, _ uint64, _ []schema.Key) (map[schema.Key][]byte, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func TestWhatIsMadeForAllIsGivenUpInTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := &live{api: &API{opts: Options{Store: hungStore{}}}}
		e := &feed.Event{FeedEntry: schema.FeedEntry{
			FeedEvent: schema.FeedEvent{Key: "k"}, Record: &schema.Record{Header: &schema.Header{}},
		}}
		for name, encode := range map[string]func(context.Context, *feed.Event) ([]byte, error){
			"block": l.stored, "deploy": l.storedDeploy(named("t1")), "header": l.header,
		} {
			if _, err := encode(t.Context(), e); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}
