package store

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/firstseen/firstseen/schema"
)

// drawing is a chain drawn block by block. A block's name is its branch and its height: a7's parent is a6 unless it is
// drawn elsewhere.
type drawing struct {
	t     testing.TB
	s     *Store
	clock *time.Time
	copy  *mirror
}

func drawings(t *testing.T, test func(t *testing.T, d *drawing)) {
	t.Helper()
	bothDialects(t, func(t *testing.T, dsn string) {
		now := time.Unix(1e9, 0)
		d := &drawing{t: t, clock: &now}
		d.s = running(t, opened(t, Options{DSN: dsn, Now: func() time.Time { return *d.clock }}))
		d.copy = newMirror(t, d.s)
		test(t, d)
		d.copy.sync()
		d.copy.compare()
	})
}

// add stores a block.
func (d *drawing) add(n uint64, hash, parent string) {
	d.t.Helper()
	got := offerAll(d.t, d.s, blockOffer("drawer", n, hash, parent))
	if got[0].Outcome != schema.First {
		d.t.Fatalf("add %s: %v", hash, got[0])
	}
}

// grow stores the blocks of a branch from one height to another; the first one's parent is given.
func (d *drawing) grow(branch string, from, to uint64, parent string) {
	d.t.Helper()
	var offers []*schema.Offer
	for n := from; n <= to; n++ {
		hash := fmt.Sprint(branch, n)
		offers = append(offers, blockOffer("drawer", n, hash, parent))
		parent = hash
	}
	if got := offerAll(d.t, d.s, offers...); count(got, schema.First) != len(offers) {
		d.t.Fatalf("grow %s from %d to %d: %v", branch, from, to, got)
	}
}

// see lets an observer report a head.
func (d *drawing) see(observer string, n uint64, hash string) {
	d.t.Helper()
	see(d.t, d.s, observer, n, hash)
}

func see(t testing.TB, s *Store, observer string, n uint64, hash string) {
	t.Helper()
	report(t, s, observer, schema.Head{Latest: schema.Point{Number: n, Hash: named(hash)}})
}

func report(t testing.TB, s *Store, observer string, h schema.Head, gaps ...schema.Gap) {
	t.Helper()
	h.Chain, h.Node = testChain, "geth"
	if err := s.Report(t.Context(), observer, schema.Report{Heads: []schema.Head{h}, Gaps: gaps}); err != nil {
		t.Fatal(err)
	}
}

func spot(n uint64, hash string) *schema.Point { return &schema.Point{Number: n, Hash: named(hash)} }

// final lets an observer report a head, a safe and a finalized block.
func (d *drawing) final(observer string, head, safe, finalized *schema.Point) {
	d.t.Helper()
	report(d.t, d.s, observer, schema.Head{Latest: *head, Safe: safe, Finalized: finalized})
}

func (d *drawing) later(by time.Duration) { *d.clock = d.clock.Add(by) }

func (d *drawing) want(on, off string) {
	d.t.Helper()
	wantChain(d.t, d.s, on, off)
	d.copy.sync()
	d.copy.compare()
}

// wantChain compares the blocks on the branch, then those off it, each by height. A word may carry its status: safe!,
// finalized!! and orphaned!.
func wantChain(t testing.TB, s *Store, on, off string) {
	t.Helper()
	var rows []recordRow
	if err := s.db.Where("chain = ?", testChain).Order("number, id").Find(&rows).Error; err != nil {
		t.Fatal(err)
	}
	var gotOn, gotOff []string
	for _, r := range rows {
		name := strings.TrimSuffix(strings.TrimPrefix(string(r.Payload), "<p>"), "</p>")
		switch schema.Status(*r.Status) {
		case schema.StatusCanonical:
			gotOn = append(gotOn, name)
		case schema.StatusSafe:
			gotOn = append(gotOn, name+"!")
		case schema.StatusFinalized:
			gotOn = append(gotOn, name+"!!")
		case schema.StatusNonCanonical:
			gotOff = append(gotOff, name)
		case schema.StatusOrphaned:
			gotOff = append(gotOff, name+"!")
		}
	}
	want := []string{on, off}
	if diff := cmp.Diff(want, []string{strings.Join(gotOn, " "), strings.Join(gotOff, " ")}); diff != "" {
		t.Errorf("branch and siblings (-want +got):\n%s", diff)
	}
	checkInvariants(t, s, rows)
}

// checkInvariants holds what must be true of any chain at any time: root to head is one unbroken branch, and replaying
// the feed gives the statuses that the rows have.
func checkInvariants(t testing.TB, s *Store, rows []recordRow) {
	t.Helper()
	c, err := readChain(s.db, testChain)
	if err != nil {
		t.Fatal(err)
	}
	if c == nil {
		return
	}
	byKey, on := map[string]recordRow{}, 0
	for _, r := range rows {
		byKey[r.Key] = r
		if schema.Status(*r.Status).OnBranch() && *r.Number >= c.RootNumber {
			on++
		}
	}
	n := 0
	for key := c.HeadKey; ; key = *byKey[key].Parent {
		r, ok := byKey[key]
		if !ok || !schema.Status(*r.Status).OnBranch() {
			t.Fatalf("branch is broken at %s after %d blocks", key, n)
		}
		n++
		if key == c.RootKey {
			break
		}
	}
	if n != on {
		t.Errorf("%d blocks from root to head, %d have a status of the branch", n, on)
	}
	replayed := map[string]string{}
	var feed []feedRow
	if err := s.db.Order("seq").Find(&feed).Error; err != nil {
		t.Fatal(err)
	}
	for i, e := range feed {
		if e.Seq != uint64(i)+1 {
			t.Fatalf("feed row %d has seq %d", i+1, e.Seq)
		}
		switch schema.FeedKind(e.Kind) {
		case schema.FeedBlock:
			replayed[*e.Key] = *e.Status
		case schema.FeedStatus:
			if replayed[*e.Key] != *e.Was {
				t.Errorf("seq %d says %s was %s, the feed said %s", e.Seq, *e.Key, *e.Was, replayed[*e.Key])
			}
			replayed[*e.Key] = *e.Status
		}
	}
	for _, r := range rows {
		if replayed[r.Key] != *r.Status {
			t.Errorf("%s is %s, its feed ends at %s", r.Payload, *r.Status, replayed[r.Key])
		}
	}
}

// events is the feed's status changes, gaps and alarms from a seq on, one word each.
func (d *drawing) events(after int) string {
	d.t.Helper()
	var feed []feedRow
	if err := d.s.db.Where("seq > ?", after).Order("seq").Find(&feed).Error; err != nil {
		d.t.Fatal(err)
	}
	var words []string
	for _, e := range feed {
		switch schema.FeedKind(e.Kind) {
		case schema.FeedStatus:
			words = append(words, fmt.Sprintf("%d:%s>%s", *e.Number, *e.Was, *e.Status))
		case schema.FeedGap:
			words = append(words, fmt.Sprintf("gap:%d-%d", *e.Number, *e.ToNumber))
		case schema.FeedAlarm:
			words = append(words, "alarm:"+*e.Note)
		}
	}
	return strings.Join(words, " ")
}

func (d *drawing) seq() int { return d.s.countRows(d.t, "feed") }

func (d *drawing) halted() string {
	d.t.Helper()
	c, err := readChain(d.s.db, testChain)
	if err != nil || c == nil {
		d.t.Fatal(c, err)
	}
	if c.Halted == nil {
		return ""
	}
	return *c.Halted
}
