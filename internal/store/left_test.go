package store

import (
	"encoding/json"
	"sync"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/firstseen/firstseen/schema"
)

// leave stores a block as a writer does that knows no rules.
func (d *drawing) leave(n uint64, hash, parent string) {
	d.t.Helper()
	o := blockOffer("drawer", n, hash, parent)
	key, number, off := string(o.Key), o.Header.Number, string(schema.StatusNonCanonical)
	above := string(o.Header.Parent.Key())
	err := d.s.transaction(d.t.Context(), func(tx *gorm.DB) error {
		row := recordRow{
			Chain: o.Chain, Key: key, Number: &number, Parent: &above, Status: &off, ContentType: o.ContentType,
			Payload: o.Payload, Observer: &o.Observer, Node: &o.Node, Server: "snake-1", Remote: "127.0.0.1",
			Token: make([]byte, 16),
		}
		if err := tx.Create(&row).Error; err != nil {
			return err
		}
		if err := tx.Create(&unplacedRow{Record: row.ID}).Error; err != nil {
			return err
		}
		l, err := openLedger(tx, schema.Micros(*d.clock))
		if err != nil {
			return err
		}
		l.add(feedRow{Kind: string(schema.FeedBlock), Chain: o.Chain, Key: &key, Number: &number, Status: &off})
		return l.close()
	})
	if err != nil {
		d.t.Fatal(err)
	}
}

// say leaves a report.
func (d *drawing) say(observer string, at time.Time, r schema.Report) {
	d.t.Helper()
	for i := range r.Heads {
		r.Heads[i].Chain, r.Heads[i].Node = testChain, "geth"
	}
	text, err := json.Marshal(r)
	if err != nil {
		d.t.Fatal(err)
	}
	row := reportRow{Observer: observer, Report: text, ReceivedAt: schema.Micros(at)}
	if err := d.s.db.Create(&row).Error; err != nil {
		d.t.Fatal(err)
	}
}

func headAt(n uint64, hash string) schema.Report {
	return schema.Report{Heads: []schema.Head{{Latest: *spot(n, hash)}}}
}

func (d *drawing) judgeLeft() {
	d.t.Helper()
	if err := d.s.JudgeLeft(d.t.Context()); err != nil {
		d.t.Fatal(err)
	}
}

func TestLeftBlocksAreJudgedLikeAllOthers(t *testing.T) {
	t.Parallel()
	drawings(t, func(t *testing.T, d *drawing) {
		d.leave(3, "a3", "a2")
		d.leave(1, "a1", "a0")
		d.leave(2, "a2", "a1")
		d.leave(2, "b2", "a1")
		d.want("", "a1 a2 b2 a3")
		d.judgeLeft()
		d.want("a1 a2 a3", "b2")
		d.leave(5, "a5", "a4")
		d.add(4, "a4", "a3") // by one of ours
		d.judgeLeft()
		d.want("a1 a2 a3 a4 a5", "b2")
		d.judgeLeft()
		if left := d.left(); left != 0 {
			t.Errorf("%d rows left", left)
		}
	})
}

func (d *drawing) left() int64 {
	d.t.Helper()
	var blocks, reports int64
	if err := d.s.db.Model(&unplacedRow{}).Count(&blocks).Error; err != nil {
		d.t.Fatal(err)
	}
	if err := d.s.db.Model(&reportRow{}).Count(&reports).Error; err != nil {
		d.t.Fatal(err)
	}
	return blocks + reports
}

func TestLeftReportsSwitchBranches(t *testing.T) {
	t.Parallel()
	drawings(t, func(t *testing.T, d *drawing) {
		for _, b := range []struct {
			n            uint64
			hash, parent string
		}{{1, "a1", "a0"}, {2, "a2", "a1"}, {3, "a3", "a2"}, {2, "b2", "a1"}, {3, "b3", "b2"}, {4, "b4", "b3"}} {
			d.leave(b.n, b.hash, b.parent)
		}
		final := schema.Report{Heads: []schema.Head{{Latest: *spot(4, "b4"), Safe: spot(2, "b2"), Finalized: spot(2, "b2")}}}
		d.say("alice", *d.clock, headAt(4, "b4"))
		d.judgeLeft()
		d.want("a1 b2 b3 b4", "a2 a3")
		d.say("alice", *d.clock, final)
		d.judgeLeft()
		d.want("a1!! b2!! b3 b4", "a2! a3")
		d.leave(2, "c2", "a1") // too late
		d.judgeLeft()
		d.want("a1!! b2!! b3 b4", "a2! c2! a3")
	})
}

func TestAReportThatWasOvertakenChangesNoHead(t *testing.T) {
	t.Parallel()
	drawings(t, func(t *testing.T, d *drawing) {
		d.grow("a", 1, 3, "a0")
		before := *d.clock
		d.later(time.Second)
		d.see("alice", 3, "a3")
		old := headAt(2, "a2")
		old.Gaps = []schema.Gap{{Chain: testChain, From: 7, To: 9, Reason: "pruned"}}
		d.say("alice", before, old)
		d.say("alice", before, schema.Report{Heads: []schema.Head{{Latest: schema.Point{Number: 1 << 63}}}}) // dropped
		d.judgeLeft()
		var head headRow
		if err := d.s.db.Take(&head).Error; err != nil || head.HeadNumber != 3 || head.BeforeKey != nil {
			t.Errorf("head %+v: %v", head, err)
		}
		var gaps int64
		if d.s.db.Model(&gapRow{}).Count(&gaps); gaps != 1 || d.left() != 0 {
			t.Errorf("%d gaps, %d rows left", gaps, d.left())
		}
	})
}

func TestManyJudgesTakeEachRowOnce(t *testing.T) {
	t.Parallel()
	drawings(t, func(t *testing.T, d *drawing) {
		parent := "a0"
		for n := uint64(1); n <= 30; n++ {
			hash := "a" + string(rune('0'+n/10)) + string(rune('0'+n%10))
			d.leave(n, hash, parent)
			parent = hash
		}
		d.leave(30, "b30", "a29")
		for range 5 {
			d.say("alice", *d.clock, headAt(30, "a30"))
		}
		d.say("bob", *d.clock, headAt(30, "b30")) // once, which moves nothing
		var judges sync.WaitGroup
		for range 4 {
			judges.Go(func() {
				if err := d.s.JudgeLeft(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		judges.Wait()
		var c chainRow
		if err := d.s.db.Take(&c).Error; err != nil || c.HeadNumber != 30 || c.HeadKey != string(named("a30").Key()) {
			t.Errorf("chain %+v: %v", c, err)
		}
		var bob headRow
		if err := d.s.db.Take(&bob, "observer = 'bob'").Error; err != nil || bob.BeforeKey != nil {
			t.Errorf("bob's report was counted twice: %v", err)
		}
	})
}
