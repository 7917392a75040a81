package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"gorm.io/gorm"

	"github.com/firstseen/firstseen/schema"
)

// FeedEnd returns where the feed ends.
func (s *Store) FeedEnd(ctx context.Context) (schema.FeedEnd, error) {
	return readFeedEnd(s.db.WithContext(ctx))
}

func readFeedEnd(db *gorm.DB) (schema.FeedEnd, error) {
	seq, err := readFeedSeq(db)
	if err != nil || seq == 0 {
		return schema.FeedEnd{}, err
	}
	own, err := ownEpoch(db)
	if err != nil || own.Epoch != "" {
		own.Seq = seq
		return own, err
	}
	// No two databases begin with the same event at the same microsecond.
	var first feedRow
	if err := db.Where("seq = 1").Limit(1).Find(&first).Error; err != nil {
		return schema.FeedEnd{}, fmt.Errorf("read start of feed: %w", err)
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%d %s %d %s", first.At, first.Kind, first.Chain, deref(first.Key)))
	return schema.FeedEnd{Epoch: hex.EncodeToString(sum[:8]), Seq: seq}, nil
}

// readFeedSeq returns the seq of the feed's last row, 0 while it is empty.
func readFeedSeq(db *gorm.DB) (uint64, error) {
	var seq uint64
	err := db.Table("feed_counter").Where("id = 1").Select("last_seq").Scan(&seq).Error
	if err != nil {
		return 0, fmt.Errorf("read feed counter: %w", err)
	}
	return seq, nil
}

// feedJoined is a row of the feed beside its record.
type feedJoined struct {
	Event  feedRow   `gorm:"embedded;embeddedPrefix:event_"`
	Record recordRow `gorm:"embedded;embeddedPrefix:record_"`
}

// Feed returns up to limit rows of the feed after a seq, in order and without a gap: rows commit in the order of their
// seq, so a row that is not there yet has none behind it. It costs two look-ups a row wherever it starts.
func (s *Store) Feed(ctx context.Context, after uint64, limit int) ([]schema.FeedEntry, error) {
	const event = "f.seq AS event_seq, f.kind AS event_kind, f.chain AS event_chain, f.`key` AS event_key, " +
		"f.number AS event_number, f.to_number AS event_to_number, f.status AS event_status, f.was AS event_was, " +
		"f.note AS event_note, f.at AS event_at"
	const record = "r.id AS record_id, r.chain AS record_chain, r.`key` AS record_key, r.number AS record_number, " +
		"r.parent AS record_parent, r.status AS record_status, r.block_time AS record_block_time, " +
		"r.observed_at AS record_observed_at, r.received_at AS record_received_at, " +
		"r.content_type AS record_content_type, r.observer AS record_observer, r.node AS record_node, " +
		"r.origin AS record_origin, r.server AS record_server, r.remote AS record_remote, " +
		"r.fee_recipient AS record_fee_recipient"
	var rows []feedJoined
	err := s.db.WithContext(ctx).Table("feed f").Select(event+", "+record).
		Joins("LEFT JOIN records r ON r.chain = f.chain AND r.`key` = f.`key`").
		Where("f.seq > ?", after).Order("f.seq").Limit(limit).Find(&rows).Error
	if err != nil {
		return nil, fmt.Errorf("read feed: %w", err)
	}
	out := make([]schema.FeedEntry, len(rows))
	for i, r := range rows {
		if out[i], err = r.entry(); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (e *feedRow) event() schema.FeedEvent {
	return schema.FeedEvent{
		Seq: e.Seq, Kind: schema.FeedKind(e.Kind), Chain: e.Chain, Key: schema.Key(deref(e.Key)), Number: e.Number,
		To: e.ToNumber, Status: schema.Status(deref(e.Status)), Was: schema.Status(deref(e.Was)), Note: deref(e.Note),
		At: schema.FromMicros(e.At),
	}
}

func (r feedJoined) entry() (schema.FeedEntry, error) {
	out := schema.FeedEntry{FeedEvent: r.Event.event()}
	if r.Record.ID == 0 {
		return out, nil
	}
	record, err := r.Record.record()
	if err != nil {
		return out, err
	}
	out.Record = &record
	return out, nil
}

// BlockAddresses returns, for each of the blocks, every address that its transactions name as sender, recipient or
// created contract, each once, in no order. A block without transactions is left out.
func (s *Store) BlockAddresses(ctx context.Context, blocks []schema.Key) (map[schema.Key][]schema.Address, error) {
	out := make(map[schema.Key][]schema.Address, len(blocks))
	if len(blocks) == 0 {
		return out, nil
	}
	var rows []struct {
		Block, Sender       string
		Recipient, Contract *string
	}
	err := s.db.WithContext(ctx).Table("transactions").Select("block, sender, recipient, contract").
		Where("block IN ?", blocks).Find(&rows).Error
	if err != nil {
		return nil, fmt.Errorf("read addresses of blocks: %w", err)
	}
	type place struct{ block, address string }
	seen := make(map[place]bool, 2*len(rows))
	for _, r := range rows {
		for _, digits := range []*string{&r.Sender, r.Recipient, r.Contract} {
			if digits == nil || seen[place{r.Block, *digits}] {
				continue
			}
			seen[place{r.Block, *digits}] = true
			a, err := schema.ParseAddress(*digits)
			if err != nil {
				return nil, fmt.Errorf("stored address in block %s: %w", r.Block, err)
			}
			out[schema.Key(r.Block)] = append(out[schema.Key(r.Block)], a)
		}
	}
	return out, nil
}
