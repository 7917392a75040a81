package store

import (
	"cmp"
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"hash"
	"slices"
	"strconv"

	"gorm.io/gorm"

	"github.com/firstseen/firstseen/netstring"
	"github.com/firstseen/firstseen/schema"
)

// Digests sums up ranges of heights, in their order, and tells where the feed ended and every chain stood at that moment:
// all of it is read from one snapshot. docs/REPLICAS.md describes what is summed up, byte by byte.
func (s *Store) Digests(ctx context.Context, ranges ...schema.HeightRange) (
	end schema.FeedEnd, chains []schema.ChainState, digests []schema.RangeDigest, err error,
) {
	err = s.snapshot(ctx, func(tx *gorm.DB) error {
		if end, err = readFeedEnd(tx); err != nil {
			return err
		}
		if chains, err = readChains(tx); err != nil {
			return err
		}
		for _, r := range ranges {
			d, err := digest(tx, r)
			if err != nil {
				return fmt.Errorf("sum up blocks %d to %d of chain %d: %w", r.From, r.To, r.Chain, err)
			}
			d.Seq = end.Seq
			digests = append(digests, d)
		}
		return nil
	})
	if err != nil {
		return schema.FeedEnd{}, nil, nil, err
	}
	return end, chains, digests, nil
}

// HeightBounds returns the lowest and the highest stored height of each chain, siblings included, by chain id.
func (s *Store) HeightBounds(ctx context.Context) ([]schema.HeightRange, error) {
	var chains []uint64
	if err := s.db.WithContext(ctx).Model(&chainRow{}).Order("chain").Pluck("chain", &chains).Error; err != nil {
		return nil, fmt.Errorf("read chains: %w", err)
	}
	out := make([]schema.HeightRange, len(chains))
	for i, chain := range chains {
		out[i].Chain = chain
		for order, into := range map[string]*uint64{"number": &out[i].From, "number DESC": &out[i].To} {
			query := s.db.WithContext(ctx).Model(&recordRow{}).Select("number").Where("chain = ?", chain).Order(order).Limit(1)
			if err := query.Scan(into).Error; err != nil {
				return nil, fmt.Errorf("read heights of chain %d: %w", chain, err)
			}
		}
	}
	return out, nil
}

// DigestCheck is what came of comparing a replica with digests of the writer's.
type DigestCheck struct {
	Equal  []schema.RangeDigest
	Differ []schema.RangeDigest // the writer's
}

// CheckDigests compares a replica with digests of the writer's. What it looks at is the database as it is when it
// returns; the comparison itself is the function that it returns, which must be called once, and which goes on while
// others write. Digests that say nothing about what is here now are in neither part of the answer: those of another
// place in the feed, or of blocks that are here as another writer had them.
func (s *Store) CheckDigests(ctx context.Context, theirs []schema.RangeDigest) (func() (DigestCheck, error), error) {
	tx, err := s.beginSnapshot(ctx)
	if err != nil {
		return nil, err
	}
	place, err := readReplicaPlace(tx)
	if err == nil && place == nil {
		err = ErrNoReplica
	}
	if err != nil {
		tx.Rollback()
		return nil, err
	}
	return func() (DigestCheck, error) {
		defer tx.Rollback()
		told, err := readRetold(tx)
		if err != nil {
			return DigestCheck{}, err
		}
		var out DigestCheck
		for _, d := range theirs {
			if d.Seq != place.Seq || !told.compares(d) {
				continue
			}
			ours, err := digest(tx, schema.HeightRange{Chain: d.Chain, From: d.From, To: d.To})
			if err != nil {
				return DigestCheck{}, err
			}
			if sameDigest(ours, d) {
				out.Equal = append(out.Equal, d)
			} else {
				out.Differ = append(out.Differ, d)
			}
		}
		return out, nil
	}, nil
}

// sameDigest compares payloads only where both stores still have all of them.
func sameDigest(a, b schema.RangeDigest) bool {
	return a.Blocks == b.Blocks && a.Facts == b.Facts && (a.Payloads == nil || b.Payloads == nil || *a.Payloads == *b.Payloads)
}

// snapshot runs read in a transaction that sees the database as it is at its first look, and writes nothing.
func (s *Store) snapshot(ctx context.Context, read func(tx *gorm.DB) error) error {
	tx, err := s.beginSnapshot(ctx)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	return read(tx)
}

func (s *Store) beginSnapshot(ctx context.Context) (*gorm.DB, error) {
	tx := s.db.WithContext(ctx).Begin(&sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true})
	if tx.Error != nil {
		return nil, fmt.Errorf("begin reading: %w", tx.Error)
	}
	return tx, nil
}

// blockSum is one stored block in a digest.
type blockSum struct {
	number         uint64
	key            string
	facts, payload [sha256.Size]byte
}

// digest needs a transaction.
func digest(tx *gorm.DB, r schema.HeightRange) (schema.RangeDigest, error) {
	d := schema.RangeDigest{Chain: r.Chain, From: r.From, To: r.To}
	blocks, pruned, err := sumBlocks(tx, r)
	if err != nil {
		return d, err
	}
	slices.SortFunc(blocks, func(a, b blockSum) int {
		return cmp.Or(cmp.Compare(a.number, b.number), cmp.Compare(a.key, b.key))
	})
	facts, payloads := sha256.New(), sha256.New()
	for i := range blocks {
		facts.Write(blocks[i].facts[:])
		payloads.Write(blocks[i].payload[:])
	}
	d.Blocks = uint64(len(blocks))
	facts.Sum(d.Facts[:0])
	if !pruned {
		d.Payloads = new(schema.Hash)
		payloads.Sum(d.Payloads[:0])
	}
	return d, nil
}

// sumBlocks reads the blocks of a range. Pruned means that retention took something of their payloads.
func sumBlocks(tx *gorm.DB, r schema.HeightRange) (blocks []blockSum, pruned bool, err error) {
	transactions, err := sumTransactions(tx, r)
	if err != nil {
		return nil, false, err
	}
	// The first columns are the facts, in the order that the digest is defined by; the last three are the payloads.
	const facts = "r.`key`, r.number, r.status, r.parent, r.block_time, r.fee_recipient, r.header, r.content_type, " +
		"r.observer, r.node, r.origin, r.server, r.remote, r.observed_at, r.received_at"
	const nFacts = 15
	sum := sha256.New()
	var room []byte
	err = scanRaw(tx, func(columns []sql.RawBytes) error {
		b := blockSum{key: string(columns[0])}
		var err error
		if b.number, err = strconv.ParseUint(string(columns[1]), 10, 64); err != nil {
			return err
		}
		room = addFields(room[:0], columns[:nFacts])
		inner := transactions[b.key]
		room = append(room, inner[:]...)
		b.facts = sha256.Sum256(room)
		prunedAt, payload, raw := columns[nFacts], columns[nFacts+1], columns[nFacts+2]
		pruned = pruned || prunedAt != nil
		sum.Reset()
		addField(sum, payload)
		addField(sum, raw)
		sum.Sum(b.payload[:0])
		blocks = append(blocks, b)
		return nil
	}, "SELECT "+facts+", r.payload_pruned_at, r.payload, raws.body FROM records r LEFT JOIN raws ON raws.record = r.id "+
		"WHERE r.chain = ? AND r.number BETWEEN ? AND ?", r.Chain, r.From, r.To)
	return blocks, pruned, err
}

// sumTransactions sums up the transactions of each block of a range by its key. A block without any is left out: its sum
// is zero.
func sumTransactions(tx *gorm.DB, r schema.HeightRange) (map[string][sha256.Size]byte, error) {
	sums := map[string][sha256.Size]byte{}
	block, sum := "", sha256.New()
	end := func() {
		if block != "" {
			sums[block] = [sha256.Size]byte(sum.Sum(nil))
		}
		sum.Reset()
	}
	var room []byte
	err := scanRaw(tx, func(columns []sql.RawBytes) error {
		if string(columns[0]) != block {
			end()
			block = string(columns[0])
		}
		room = addFields(room[:0], columns[1:])
		sum.Write(room)
		return nil
	}, "SELECT t.block, t.tx_index, t.hash, t.sender, t.recipient, t.value, t.gas_used, t.tx_status, t.contract "+
		"FROM records r JOIN transactions t ON t.block = r.`key` WHERE r.chain = ? AND r.number BETWEEN ? AND ? "+
		"ORDER BY r.number, r.id, t.tx_index, t.hash", r.Chain, r.From, r.To)
	end()
	return sums, err
}

// scanRaw hands over each row of a query; what it hands over is good until the next.
func scanRaw(tx *gorm.DB, row func(columns []sql.RawBytes) error, query string, args ...any) (err error) {
	rows, err := tx.Raw(query, args...).Rows()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	names, err := rows.Columns()
	if err != nil {
		return err
	}
	columns, into := make([]sql.RawBytes, len(names)), make([]any, len(names))
	for i := range columns {
		into[i] = &columns[i]
	}
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			return err
		}
		if err := row(columns); err != nil {
			return err
		}
	}
	return rows.Err()
}

// absent stands for a field that is NULL or empty, which is no difference: a record on its way to a replica has one
// nothing for both.
const absent = "-,"

// addFields appends columns as netstrings, numbers as decimal text: no two rows have the same bytes.
func addFields(to []byte, columns []sql.RawBytes) []byte {
	for _, c := range columns {
		if len(c) == 0 {
			to = append(to, absent...)
			continue
		}
		to = netstring.Append(to, c)
	}
	return to
}

// addField is addFields for one that may be too large to copy.
func addField(sum hash.Hash, column sql.RawBytes) {
	if len(column) == 0 {
		_, _ = sum.Write([]byte(absent))
		return
	}
	_, _ = sum.Write(append(strconv.AppendInt(nil, int64(len(column)), 10), ':'))
	_, _ = sum.Write(column)
	_, _ = sum.Write([]byte{','})
}
