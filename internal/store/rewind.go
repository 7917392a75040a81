package store

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/firstseen/firstseen/schema"
)

// ErrNoReplica reports a database that follows nobody: what it holds cannot be had again.
var ErrNoReplica = errors.New("this database is no replica")

// Move is where a replica is put by hand: back on one chain, or onto the feed of another writer. Everything that it does
// is one transaction.
type Move struct {
	From   ReplicaPlace // what the plan was made for
	To     ReplicaPlace // where following goes on; its epoch is not used
	Chains []ChainMove

	Action string // for the audit
	Actor  string
	Detail any // encoded as JSON
}

// ChainMove is what a Move does to one chain.
type ChainMove struct {
	Chain uint64
	Back  *Retreat // nil: nothing that is stored leaves

	// Told is the seq of the feed that is followed from then on up to which its rows of this chain are in. Of chains that a
	// Move on the same feed leaves out, it is where the replica was.
	Told uint64
	// ForeignTo is the height up to which what stays is another writer's; nil where all is that of the one followed.
	ForeignTo *uint64
	// Safe and Finalized are heights that the writer which is followed from then on is known to have come to: blocks up to
	// them that stay become so here, because that is not told again. Nil where nothing is known.
	Safe, Finalized *uint64
}

// Retreat says which blocks of a chain leave.
type Retreat struct {
	// Above is the height above which all blocks leave.
	Above uint64
	// Cut leaves everything else as it is. Otherwise the chain is put back to where it stood before the first of those
	// blocks was told: blocks below that were told later leave, too, and statuses are as they were then.
	Cut bool
	// All takes the whole chain away.
	All bool
	// First must be the block of those above the height that was told first, if it is set: what was planned for another
	// is not done.
	First schema.Key
}

// Moved is what a Move changed, or would have.
type Moved struct {
	Place  ReplicaPlace // before
	Chains []ChainMoved // of those with a Retreat
}

// ChainMoved is what a Retreat changed on one chain.
type ChainMoved struct {
	Before  schema.ChainState
	After   *schema.ChainState // nil: nothing of the chain is left
	First   *schema.Point      // of the blocks above the height, the one that was told first; nil where none is above it
	FirstAt uint64             // that block's seq in the feed that is served from here
	Leaving []schema.Point     // the lowest first
	Late    uint64             // of those, the ones at or below the height
	Changed uint64             // blocks that stay with another status
}

// errDry ends a transaction that was only to show what it would do.
var errDry = errors.New("nothing is to be changed")

// PlanMove tells what MoveReplica would do, by doing it and rolling back.
func (s *Store) PlanMove(ctx context.Context, m Move) (*Moved, error) {
	out, _, err := s.move(ctx, m, true)
	if errors.Is(err, errDry) {
		err = nil
	}
	return out, err
}

// MoveReplica puts a replica somewhere else. The rows of its feed stay readable; those that undo what leaves are added to
// them, and the feed has a new epoch from there on. Others that apply rows to it at the same time find out by its place.
// It holds some 200 bytes for each block that leaves.
func (s *Store) MoveReplica(ctx context.Context, m Move) (*Moved, error) {
	out, end, err := s.move(ctx, m, false)
	if err != nil {
		return nil, err
	}
	s.tell(end)
	return out, nil
}

func (s *Store) move(ctx context.Context, m Move, dry bool) (out *Moved, end uint64, err error) {
	if s.dialect != dialectSQLite {
		return nil, 0, fmt.Errorf("%w: those are SQLite files", ErrNoReplica)
	}
	err = s.retried(ctx, func(tx *gorm.DB) error {
		l, err := openLedger(tx, schema.Micros(s.now()))
		if err != nil {
			return err
		}
		mv := &mover{ledger: l, plan: m, moved: &Moved{}, since: l.last}
		if err := mv.run(); err != nil {
			return err
		}
		out, end = mv.moved, l.last
		if dry {
			return errDry
		}
		return nil
	})
	return out, end, err
}

// mover does a Move in its transaction.
type mover struct {
	*ledger
	plan  Move
	moved *Moved
	since uint64 // the feed's last row before it
}

func (m *mover) run() error {
	place, err := readReplicaPlace(m.tx)
	if err != nil {
		return err
	}
	if place == nil {
		return ErrNoReplica
	}
	f := m.plan.From
	f.Seq, f.Link = place.Seq, place.Link // on the same feed, rows that came since then leave like those before them
	if *place != f || place.Seq < m.plan.From.Seq || !m.sameFeed() && place.Seq != m.plan.From.Seq {
		return ErrReplicaMoved
	}
	m.moved.Place = *place
	for _, c := range m.plan.Chains {
		if c.Back != nil {
			if err := m.retreat(c); err != nil {
				return fmt.Errorf("chain %d: %w", c.Chain, err)
			}
		}
		if err := m.secure(c); err != nil {
			return fmt.Errorf("chain %d: %w", c.Chain, err)
		}
	}
	if err := m.know(); err != nil {
		return err
	}
	if err := m.place(); err != nil {
		return err
	}
	detail, err := auditDetail(m.plan.Detail)
	if err != nil {
		return err
	}
	err = noteAudit(m.tx, schema.AuditEntry{
		At: schema.FromMicros(m.at), Actor: m.plan.Actor, Action: m.plan.Action, Detail: detail,
	})
	if err != nil {
		return err
	}
	return m.close()
}

// know writes what is known beforehand of the rows that will come. A chain that is not stored yet had no row so far.
func (m *mover) know() error {
	known, err := readRetold(m.tx)
	if err != nil {
		return err
	}
	rows := map[uint64]toldRow{}
	if m.sameFeed() {
		var chains []uint64
		if err := m.tx.Model(&chainRow{}).Pluck("chain", &chains).Error; err != nil {
			return fmt.Errorf("read chains: %w", err)
		}
		for chain := range known.told {
			chains = append(chains, chain)
		}
		for _, chain := range append(chains, schema.BareChain) {
			row := toldRow{Chain: chain, Told: max(known.told[chain], m.moved.Place.Seq)}
			if to, ok := known.foreign[chain]; ok {
				row.ForeignTo = &to
			}
			rows[chain] = row
		}
	}
	for _, c := range m.plan.Chains {
		rows[c.Chain] = toldRow{Chain: c.Chain, Told: c.Told, ForeignTo: c.ForeignTo}
	}
	if err := m.tx.Where("1 = 1").Delete(&toldRow{}).Error; err != nil {
		return fmt.Errorf("forget what was told: %w", err)
	}
	for _, chain := range slices.Sorted(maps.Keys(rows)) {
		row := rows[chain]
		if row.Told <= m.plan.To.Seq && row.ForeignTo == nil {
			continue // nothing of it comes again
		}
		if err := m.tx.Create(&row).Error; err != nil {
			return fmt.Errorf("write what is told: %w", err)
		}
	}
	return nil
}

// ForeignTo tells up to which height blocks of a chain may be here as another writer had them; nil if none are.
func (s *Store) ForeignTo(ctx context.Context, chain uint64) (*uint64, error) {
	known, err := readRetold(s.db.WithContext(ctx))
	if err != nil {
		return nil, err
	}
	if to, ok := known.foreign[chain]; ok {
		return &to, nil
	}
	return nil, nil
}

func (m *mover) sameFeed() bool {
	return m.plan.To.Role == m.plan.From.Role && m.plan.To.Source == m.plan.From.Source
}

// place writes where following goes on, and gives the feed that is served from here a new epoch: what its rows mean from
// here on is not what the writer's of the same seq do.
func (m *mover) place() error {
	was, err := readFeedEnd(m.tx)
	if err != nil {
		return err
	}
	to, link := m.plan.To, ""
	if !to.Link.IsZero() {
		link = string(to.Link.Key())
	}
	columns := map[string]any{
		"env": to.Env, "role": to.Role, "source": to.Source, "seq": to.Seq, "link": link, "updated_at": m.at,
		"epoch": newEpoch(), "was": nil, "since": m.since,
	}
	if was.Epoch != "" {
		columns["was"] = was.Epoch
	}
	if err := m.tx.Model(&replicaRow{}).Where("id = 1").UpdateColumns(columns).Error; err != nil {
		return fmt.Errorf("move replica: %w", err)
	}
	return nil
}

// ownEpoch is the epoch of the feed that a replica serves where it is not the writer's row by row; empty anywhere else.
func ownEpoch(db *gorm.DB) (schema.FeedEnd, error) {
	var rows []struct {
		Epoch string
		Was   *string
		Since uint64
	}
	err := db.Table("replica").Select("epoch, was, since").Where("id = 1 AND epoch IS NOT NULL").Find(&rows).Error
	if err != nil {
		return schema.FeedEnd{}, fmt.Errorf("read replica's epoch: %w", err)
	}
	if len(rows) == 0 {
		return schema.FeedEnd{}, nil
	}
	return schema.FeedEnd{Epoch: rows[0].Epoch, Was: deref(rows[0].Was), Since: rows[0].Since}, nil
}

func newEpoch() string {
	var b [8]byte
	_, _ = rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// forget deletes records with all that hangs on them.
func (m *mover) forget(chain uint64, blocks []blockRow) error {
	for part := range slices.Chunk(blocks, chunkRows) {
		ids, keys := make([]uint64, len(part)), make([]string, len(part))
		for i, b := range part {
			ids[i], keys[i] = b.ID, b.Key
		}
		shared, err := m.elsewhere(chain, keys)
		if err != nil {
			return err
		}
		keys = slices.DeleteFunc(keys, func(key string) bool { return slices.Contains(shared, key) })
		for _, step := range []*gorm.DB{
			m.tx.Exec("DELETE FROM observations WHERE record IN ?", ids),
			m.tx.Exec("DELETE FROM raws WHERE record IN ?", ids),
			m.tx.Exec("DELETE FROM transactions WHERE block IN ? AND chain = ?", keys, chain),
			m.tx.Exec("DELETE FROM records WHERE id IN ?", ids),
			// What comes again with these ids is to be pruned again.
			m.tx.Exec("UPDATE retention SET up_to = ? WHERE up_to >= ?", max(slices.Min(ids), 1)-1, slices.Min(ids)),
		} {
			if step.Error != nil {
				return fmt.Errorf("delete blocks: %w", step.Error)
			}
		}
	}
	return nil
}

// elsewhere finds those of the keys that another chain has as well: chains that split share their past, and its
// transactions.
func (m *mover) elsewhere(chain uint64, keys []string) ([]string, error) {
	var others []uint64
	if err := m.tx.Model(&chainRow{}).Where("chain <> ?", chain).Pluck("chain", &others).Error; err != nil {
		return nil, fmt.Errorf("read chains: %w", err)
	}
	if len(others) == 0 {
		return nil, nil
	}
	var shared []string
	err := m.tx.Model(&recordRow{}).Where("chain IN ? AND `key` IN ?", others, keys).Pluck("`key`", &shared).Error
	if err != nil {
		return nil, fmt.Errorf("find blocks of other chains: %w", err)
	}
	return shared, nil
}

// put writes where a chain stands, or takes it away.
func (m *mover) put(c *chainRow, chain uint64) error {
	if c != nil {
		return m.saveChain(c)
	}
	if err := m.tx.Clauses(clause.Where{Exprs: []clause.Expression{clause.Eq{Column: "chain", Value: chain}}}).
		Delete(&chainRow{}).Error; err != nil {
		return fmt.Errorf("delete chain: %w", err)
	}
	return nil
}
