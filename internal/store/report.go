package store

import (
	"context"
	"errors"
	"fmt"
	"math"
	"unicode/utf8"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/firstseen/firstseen/schema"
)

// maxReason is what the tables hold of a gap's reason or of why a chain is halted, in characters.
const maxReason = 255

// Report takes what an observer knows besides blocks and judges the chains that it speaks of. A report that the tables
// cannot hold is an error and changes nothing. Otherwise its heads and gaps stand even if its nodes cannot be written,
// which is an error too.
func (s *Store) Report(ctx context.Context, observer string, r schema.Report) error {
	if err := screenReport(observer, r); err != nil {
		return fmt.Errorf("report of %q: %w", observer, err)
	}
	if len(r.Heads)+len(r.Gaps)+len(r.Nodes)+len(r.Events) == 0 {
		return nil
	}
	now, err := s.clock(ctx)
	if err != nil {
		return err
	}
	err = errors.Join(s.reportChains(ctx, observer, r, now), s.reportNodes(ctx, observer, r, now))
	if err != nil {
		return fmt.Errorf("report of %q: %w", observer, err)
	}
	s.prune(ctx, now)
	return nil
}

// reportChains writes heads and gaps and judges their chains.
func (s *Store) reportChains(ctx context.Context, observer string, r schema.Report, now int64) error {
	chains := r.Chains()
	if len(chains) == 0 {
		return nil
	}
	err := s.retried(ctx, func(tx *gorm.DB) error { return noteReport(tx, observer, r, now) })
	if err != nil {
		return err
	}
	for _, chain := range chains {
		if err := s.judge(ctx, chain, now); err != nil {
			return fmt.Errorf("judge chain %d: %w", chain, err)
		}
	}
	return nil
}

// clock is the time that servers compare reports by, in microseconds. On MySQL it is the database's, because the
// servers' own clocks differ: by its own, a server that runs half a minute ahead would take everyone else's observers
// for dead.
func (s *Store) clock(ctx context.Context) (int64, error) {
	if s.dialect != dialectMySQL || s.steady {
		return schema.Micros(s.now()), nil
	}
	return s.databaseClock(ctx)
}

// databaseClock is MySQL's own time, in microseconds.
func (s *Store) databaseClock(ctx context.Context) (int64, error) {
	var now int64
	err := s.db.WithContext(ctx).Raw("SELECT CAST(UNIX_TIMESTAMP(NOW(6)) * 1000000 AS SIGNED)").Scan(&now).Error
	if err != nil {
		return 0, fmt.Errorf("read the database's clock: %w", err)
	}
	return now, nil
}

func screenReport(observer string, r schema.Report) error {
	if !schema.ValidName(observer) {
		return &badOffer{"observer is not a name"}
	}
	for _, h := range r.Heads {
		if err := screenHead(h); err != nil {
			return err
		}
	}
	for _, g := range r.Gaps {
		switch {
		case g.Chain == schema.BareChain || g.Chain > math.MaxInt64:
			return &badOffer{"chain id out of range"}
		case g.From > g.To || g.To > math.MaxInt64:
			return &badOffer{"gap out of range"}
		case utf8.RuneCountInString(g.Reason) > maxReason || !utf8.ValidString(g.Reason):
			return &badOffer{fmt.Sprintf("reason of gap is not UTF-8 of at most %d characters", maxReason)}
		}
	}
	return screenNodes(r)
}

func screenHead(h schema.Head) error {
	if h.Chain == schema.BareChain || h.Chain > math.MaxInt64 {
		return &badOffer{"chain id out of range"}
	}
	if len(h.Node) > maxName || !printable(h.Node) {
		return &badOffer{"node is not a name"}
	}
	for _, p := range []*schema.Point{&h.Latest, h.Safe, h.Finalized} {
		if p != nil && p.Number > math.MaxInt64 {
			return &badOffer{"block number out of range"}
		}
	}
	return nil
}

// noteReport writes heads, each keeping the one before, and gaps.
func noteReport(tx *gorm.DB, observer string, r schema.Report, now int64) error {
	for _, h := range r.Heads {
		row := headRow{
			Chain: h.Chain, Observer: observer, Node: h.Node, ReportedAt: now,
			HeadKey: string(h.Latest.Hash.Key()), HeadNumber: h.Latest.Number,
		}
		row.SafeKey, row.SafeNumber = split(h.Safe)
		row.FinalizedKey, row.FinalizedNumber = split(h.Finalized)
		if err := upsertHead(tx, &row); err != nil {
			return err
		}
	}
	for _, g := range r.Gaps {
		row := gapRow{
			Chain: g.Chain, Observer: observer, FromNumber: g.From, ToNumber: g.To, Reason: g.Reason, ReportedAt: now,
		}
		if err := tx.Clauses(clause.OnConflict{DoNothing: true}).Create(&row).Error; err != nil {
			return fmt.Errorf("insert gap: %w", err)
		}
	}
	return nil
}

func split(p *schema.Point) (key *string, number *uint64) {
	if p == nil {
		return nil, nil
	}
	k, n := string(p.Hash.Key()), p.Number
	return &k, &n
}

// upsertHead replaces an observer's head, keeping the one before; unless that is so old that the observer was not live
// in between, and must show its head twice anew. MySQL assigns from left to right: the old head is saved before it is
// overwritten.
func upsertHead(tx *gorm.DB, row *headRow) error {
	const ifLive = "CASE WHEN heads.reported_at >= ? THEN "
	since := row.ReportedAt - liveFor.Microseconds()
	set := clause.Set{
		{Column: clause.Column{Name: "before_key"}, Value: gorm.Expr(ifLive+"heads.head_key END", since)},
		{Column: clause.Column{Name: "before_number"}, Value: gorm.Expr(ifLive+"heads.head_number END", since)},
		{Column: clause.Column{Name: "node"}, Value: row.Node},
		{Column: clause.Column{Name: "head_key"}, Value: row.HeadKey},
		{Column: clause.Column{Name: "head_number"}, Value: row.HeadNumber},
		{Column: clause.Column{Name: "safe_key"}, Value: row.SafeKey},
		{Column: clause.Column{Name: "safe_number"}, Value: row.SafeNumber},
		{Column: clause.Column{Name: "finalized_key"}, Value: row.FinalizedKey},
		{Column: clause.Column{Name: "finalized_number"}, Value: row.FinalizedNumber},
		{Column: clause.Column{Name: "reported_at"}, Value: row.ReportedAt},
	}
	key := []clause.Column{{Name: "chain"}, {Name: "observer"}}
	if err := tx.Clauses(clause.OnConflict{Columns: key, DoUpdates: set}).Create(row).Error; err != nil {
		return fmt.Errorf("upsert head: %w", err)
	}
	return nil
}
