package store

import (
	"context"
	"fmt"
	"math/big"
	"slices"
	"time"

	"gorm.io/gorm"

	"github.com/firstseen/firstseen/schema"
)

// metadata reads records without what can be large or is the writer's own.
func (s *Store) metadata(ctx context.Context) *gorm.DB {
	return s.db.WithContext(ctx).Model(&recordRow{}).Omit("payload", "token")
}

// Chains returns where every stored chain stands, by chain id.
func (s *Store) Chains(ctx context.Context) ([]schema.ChainState, error) {
	return readChains(s.db.WithContext(ctx))
}

func readChains(db *gorm.DB) ([]schema.ChainState, error) {
	var rows []chainRow
	if err := db.Order("chain").Find(&rows).Error; err != nil {
		return nil, fmt.Errorf("read chains: %w", err)
	}
	out := make([]schema.ChainState, len(rows))
	for i, r := range rows {
		root, err := point(r.RootNumber, r.RootKey)
		if err != nil {
			return nil, err
		}
		head, err := point(r.HeadNumber, r.HeadKey)
		if err != nil {
			return nil, err
		}
		out[i] = schema.ChainState{
			Chain: r.Chain, Root: root, Head: head,
			Safe: r.SafeNumber, Finalized: r.FinalizedNumber, Halted: deref(r.Halted),
		}
	}
	return out, nil
}

// RecordsByKey returns the records of that key on the given chains, by chain: one hash may be stored on several, since
// chains that split share their past.
func (s *Store) RecordsByKey(ctx context.Context, key schema.Key, chains []uint64) ([]schema.Record, error) {
	if len(chains) == 0 {
		return nil, nil
	}
	var rows []recordRow
	err := s.metadata(ctx).Where(map[string]any{"chain": chains, "key": string(key)}).Order("chain").Find(&rows).Error
	if err != nil {
		return nil, fmt.Errorf("read records by key: %w", err)
	}
	return records(rows)
}

// BlocksAt returns all blocks of one height, those stored earlier first.
func (s *Store) BlocksAt(ctx context.Context, chain, number uint64) ([]schema.Record, error) {
	var rows []recordRow
	err := s.metadata(ctx).Where("chain = ? AND number = ?", chain, number).Order("id").Find(&rows).Error
	if err != nil {
		return nil, fmt.Errorf("read blocks by number: %w", err)
	}
	return records(rows)
}

// Payload returns a record's payload as it was stored, or nil if there is no such record. The error is
// schema.ErrPayloadPruned for one that retention has taken.
func (s *Store) Payload(ctx context.Context, id uint64) ([]byte, error) {
	var rows []struct {
		Payload         []byte
		PayloadPrunedAt *int64
	}
	err := s.db.WithContext(ctx).Model(&recordRow{}).Where("id = ?", id).Find(&rows).Error
	if err != nil {
		return nil, fmt.Errorf("read payload: %w", err)
	}
	if len(rows) == 0 {
		return nil, nil
	}
	if at := rows[0].PayloadPrunedAt; at != nil {
		return nil, fmt.Errorf("%w, on %s", schema.ErrPayloadPruned, schema.FromMicros(*at).UTC().Format(time.DateOnly))
	}
	return rows[0].Payload, nil
}

// Arrivals returns each observer's first observation of a record, in the order in which the servers received them.
func (s *Store) Arrivals(ctx context.Context, record uint64) ([]schema.Arrival, error) {
	var rows []struct {
		Observer, Node, Server, Origin string
		ObservedAt, ReceivedAt         int64
	}
	if err := s.db.WithContext(ctx).Table("observations").Where("record = ?", record).Find(&rows).Error; err != nil {
		return nil, fmt.Errorf("read observations: %w", err)
	}
	out := make([]schema.Arrival, len(rows))
	for i, r := range rows {
		out[i] = schema.Arrival{
			Observer: r.Observer, Node: r.Node, Server: r.Server, Origin: schema.Origin(r.Origin),
			ObservedAt: schema.FromMicros(r.ObservedAt), ReceivedAt: schema.FromMicros(r.ReceivedAt),
		}
	}
	// The key gives them by observer; sorting the few of one block here spares the database a sort.
	slices.SortStableFunc(out, func(a, b schema.Arrival) int { return a.ReceivedAt.Compare(b.ReceivedAt) })
	return out, nil
}

// TransactionsOf returns a block's transactions in the block's order.
func (s *Store) TransactionsOf(ctx context.Context, block schema.Key) ([]schema.Transaction, error) {
	var rows []storedTransaction
	if err := s.db.WithContext(ctx).Table("transactions").Where("block = ?", string(block)).Find(&rows).Error; err != nil {
		return nil, fmt.Errorf("read transactions: %w", err)
	}
	slices.SortFunc(rows, func(a, b storedTransaction) int { return int(a.TxIndex) - int(b.TxIndex) })
	out := make([]schema.Transaction, len(rows))
	for i, r := range rows {
		var err error
		if out[i], err = r.transaction(); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// TransactionCounts returns how many transactions each of the blocks has; a block without any is left out.
func (s *Store) TransactionCounts(ctx context.Context, blocks []schema.Key) (map[schema.Key]uint64, error) {
	out := make(map[schema.Key]uint64, len(blocks))
	if len(blocks) == 0 {
		return out, nil
	}
	var rows []struct {
		Block string
		N     uint64
	}
	err := s.db.WithContext(ctx).Table("transactions").Select("block, COUNT(*) AS n").
		Where("block IN ?", blocks).Group("block").Find(&rows).Error
	if err != nil {
		return nil, fmt.Errorf("count transactions: %w", err)
	}
	for _, r := range rows {
		out[schema.Key(r.Block)] = r.N
	}
	return out, nil
}

// NewestKeys returns the records received last, newest first.
func (s *Store) NewestKeys(ctx context.Context, limit int) ([]schema.KeyTime, error) {
	var rows []recordRow
	err := s.db.WithContext(ctx).Select("key", "received_at").Order("received_at DESC, id DESC").Limit(limit).
		Find(&rows).Error
	if err != nil {
		return nil, fmt.Errorf("read newest records: %w", err)
	}
	out := make([]schema.KeyTime, len(rows))
	for i, r := range rows {
		out[i] = schema.KeyTime{Key: schema.Key(r.Key), ReceivedAt: schema.FromMicros(r.ReceivedAt)}
	}
	return out, nil
}

// Clients returns the addresses that sent bare payloads, in byte order.
func (s *Store) Clients(ctx context.Context, limit int) ([]schema.ClientCount, error) {
	var rows []clientRow
	if err := s.db.WithContext(ctx).Order("ip").Limit(limit).Find(&rows).Error; err != nil {
		return nil, fmt.Errorf("read clients: %w", err)
	}
	out := make([]schema.ClientCount, len(rows))
	for i, r := range rows {
		out[i] = schema.ClientCount{IP: r.IP, Count: r.Count}
	}
	return out, nil
}

// storedTransaction is a row of transactions as far as readers care.
type storedTransaction struct {
	Hash      string
	TxIndex   uint32
	Sender    string
	Recipient *string
	Value     []byte
	GasUsed   *uint64
	TxStatus  *uint8
	Contract  *string
}

func (r storedTransaction) transaction() (schema.Transaction, error) {
	out := schema.Transaction{
		Index: r.TxIndex, Value: new(big.Int).SetBytes(r.Value).String(), GasUsed: r.GasUsed, Status: r.TxStatus,
	}
	var err error
	if out.Hash, err = schema.ParseHash(r.Hash); err != nil {
		return out, fmt.Errorf("stored transaction hash %q: %w", r.Hash, err)
	}
	if out.From, err = schema.ParseAddress(r.Sender); err != nil {
		return out, fmt.Errorf("stored sender of %s: %w", out.Hash, err)
	}
	if out.To, err = address(r.Recipient); err != nil {
		return out, fmt.Errorf("stored recipient of %s: %w", out.Hash, err)
	}
	if out.Contract, err = address(r.Contract); err != nil {
		return out, fmt.Errorf("stored contract of %s: %w", out.Hash, err)
	}
	return out, nil
}

func address(digits *string) (*schema.Address, error) {
	if digits == nil {
		return nil, nil
	}
	a, err := schema.ParseAddress(*digits)
	return &a, err
}

func point(number uint64, key string) (schema.Point, error) {
	hash, err := schema.ParseHash(key)
	if err != nil {
		return schema.Point{}, fmt.Errorf("stored key %q: %w", key, err)
	}
	return schema.Point{Number: number, Hash: hash}, nil
}

func records(rows []recordRow) ([]schema.Record, error) {
	out := make([]schema.Record, len(rows))
	for i, r := range rows {
		var err error
		if out[i], err = r.record(); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (r recordRow) record() (schema.Record, error) {
	out := schema.Record{
		ID: r.ID, Chain: r.Chain, Key: schema.Key(r.Key), Status: schema.Status(deref(r.Status)),
		ContentType: r.ContentType, Observer: deref(r.Observer), Node: deref(r.Node),
		Origin: schema.Origin(deref(r.Origin)), Server: r.Server, Remote: r.Remote,
		ReceivedAt: schema.FromMicros(r.ReceivedAt),
	}
	if r.ObservedAt != nil {
		at := schema.FromMicros(*r.ObservedAt)
		out.ObservedAt = &at
	}
	if r.Number == nil {
		return out, nil
	}
	var err error
	out.Header, err = r.header()
	return out, err
}

func (r recordRow) header() (*schema.Header, error) {
	p, err := point(*r.Number, r.Key)
	if err != nil {
		return nil, err
	}
	parent, err := schema.ParseHash(deref(r.Parent))
	if err != nil {
		return nil, fmt.Errorf("stored parent of %s: %w", p, err)
	}
	out := &schema.Header{Hash: p.Hash, Parent: parent, Number: p.Number, Time: at(r.BlockTime)}
	recipient, err := address(r.FeeRecipient)
	if err != nil {
		return nil, fmt.Errorf("stored fee recipient of %s: %w", p, err)
	}
	if recipient != nil {
		out.FeeRecipient = *recipient
	}
	return out, nil
}

func at(micros *int64) time.Time {
	if micros == nil {
		return time.Time{}
	}
	return schema.FromMicros(*micros)
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
