package statsapi

import (
	"context"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/firstseen/firstseen/schema"
)

// standing is a replica that stands as it is told to.
type standing struct {
	state atomic.Pointer[schema.ReplicaState]
}

func (s *standing) State() schema.ReplicaState {
	if state := s.state.Load(); state != nil {
		return *state
	}
	return schema.ReplicaState{Env: "main", Role: "primary", Phase: schema.ReplicaStarting, Since: epoch}
}

// audited is a store that an operator touched.
type audited struct{ Store }

func (audited) Audit(_ context.Context, limit int) ([]schema.AuditEntry, error) {
	entries := []schema.AuditEntry{
		{At: epoch.Add(time.Hour), Actor: "anna@ops-1", Action: "rewind", Detail: `{"chain":5,"to_height":3}`},
		{At: epoch, Actor: "bert@ops-1", Action: "switch", Detail: `from another version`},
	}
	return entries[:min(limit, len(entries))], nil
}

func behind() *schema.ReplicaState {
	end, head, lag, late, at := uint64(120), uint64(12), uint64(2), 1500*time.Millisecond, epoch.Add(-time.Second)
	return &schema.ReplicaState{
		Env: "main", Role: "primary", Phase: schema.ReplicaWaiting, Reason: "object x is missing", Since: epoch,
		Seq: 100, End: &end, Lag: &late, WriterAt: &at, Digests: 7,
		Chains: []schema.ReplicaChain{{Chain: 5, Number: 10, Writer: &head, Lag: &lag}, {Chain: 9, Number: 3}},
		Differ: []schema.RangeDigest{{Chain: 5, From: 0, To: 999, Seq: 90}},
	}
}

// replica checks the route on replicas, s among them, and on one that is none.
func (c *contract) replica(s, none *site, following *standing) {
	c.t.Helper()
	c.check(s, "/v1/replica", "/v1/replica", http.StatusOK)
	following.state.Store(behind())
	c.check(s, "/v1/replica", "/v1/replica", http.StatusOK)
	c.check(none, "/v1/replica", "/v1/replica", http.StatusNotFound)
}

func TestAReplicaTellsHowItStands(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	following := &standing{}
	following.state.Store(behind())
	got := serve(t, Options{Store: audited{w.store}, Replica: following}).get("/v1/replica")
	const want = `{"env":"main","role":"primary","phase":"waiting","reason":"object x is missing",
		"since":"2026-01-02T03:04:05.678900Z","applied_seq":100,"writer_seq":120,"lag_seconds":1.5,
		"writer_at":"2026-01-02T03:04:04.678900Z",
		"chains":[{"chain":5,"number":10,"writer_number":12,"lag_blocks":2},
		 {"chain":9,"number":3,"writer_number":null,"lag_blocks":null}],
		"digests":{"equal":7,"differ":[{"chain":5,"from":0,"to":999,"seq":90}]},
		"audit":[{"at":"2026-01-02T04:04:05.678900Z","actor":"anna@ops-1","action":"rewind","detail":{"chain":5,"to_height":3}},
		 {"at":"2026-01-02T03:04:05.678900Z","actor":"bert@ops-1","action":"switch","detail":{}}]}`
	if got.StatusCode != http.StatusOK {
		t.Fatal(got.StatusCode, got.body)
	}
	if d := cmp.Diff(parsed(t, want), parsed(t, got.body)); d != "" {
		t.Error(d)
	}
	none := serve(t, Options{Store: w.store}).get("/v1/replica")
	if none.StatusCode != http.StatusNotFound || !strings.Contains(none.body, "firstseen follow") {
		t.Error(none.StatusCode, none.body)
	}
}

// tallied is a feed of some blocks on chain 5.
type tallied struct {
	epoch       string
	seq, blocks uint64
}

func (t *tallied) Tally(_ context.Context, after, _ uint64) (schema.Tally, error) {
	out := schema.Tally{Epoch: t.epoch, Seq: t.seq}
	if after < t.seq {
		out.Blocks = map[uint64]uint64{5: t.blocks}
	}
	return out, nil
}

func (t *tallied) CountObservations(context.Context) (uint64, error) { return 0, nil }

func TestTotalsAreCountedAnewOnceAReplicaWasMoved(t *testing.T) {
	t.Parallel()
	feed := &tallied{epoch: "a", seq: 10, blocks: 10}
	c := newCounter(feed)
	if n, err := c.blocks(t.Context(), 5); n != 10 || err != nil {
		t.Fatal(n, err)
	}
	feed.epoch, feed.seq, feed.blocks = "b", 14, 6 // four blocks left, each with a row that says so
	if n, err := c.blocks(t.Context(), 5); n != 6 || err != nil {
		t.Error(n, err)
	}
}
