package replica

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/go-json-experiment/json"
	"golang.org/x/sync/errgroup"

	"github.com/firstseen/firstseen/internal/objects"
	"github.com/firstseen/firstseen/schema"
)

// builtRows are rows whose records are stored.
type builtRows []Row

// rows returns them for a segment that carries their records, or that only names them.
func (b builtRows) rows(carrying bool) []Row {
	rows := make([]Row, len(b))
	for i, r := range b {
		rows[i] = Row{Event: r.Event, Object: r.Object}
		if carrying {
			rows[i].body = r.body
		}
	}
	return rows
}

// putRecords stores the records that rows added, several at once, and returns what segments say of the rows.
func (s *Shipper) putRecords(ctx context.Context, rows []schema.ShippedRow) (builtRows, error) {
	built := make(builtRows, len(rows))
	uploads, uploading := errgroup.WithContext(ctx)
	uploads.SetLimit(s.opts.Uploads)
	for i := range rows {
		built[i].Event = rows[i].FeedEvent
		if rows[i].Record == nil {
			continue
		}
		uploads.Go(func() (err error) {
			built[i].body, err = s.putRecord(uploading, rows[i].Record)
			built[i].Object = sha256.Sum256(built[i].body)
			return err
		})
	}
	return built, uploads.Wait()
}

// putRecord stores a record and returns its JSON. Where the record is stored already, that one counts: a segment may name
// it, and retention may have taken from the database since what it still has.
func (s *Shipper) putRecord(ctx context.Context, r *schema.ShippedRecord) (body []byte, err error) {
	if body, err = json.Marshal(r); err != nil {
		return nil, fmt.Errorf("encode record %s: %w", r.Key, err)
	}
	stored, err := compress(body)
	if err != nil {
		return nil, err
	}
	key := s.opts.Block(r.Chain, r.Key)
	err = s.opts.Objects.Create(ctx, key, stored)
	if err == nil {
		s.metrics.bytes.Add(float64(len(stored)))
		return body, nil
	}
	if !errors.Is(err, objects.ErrExists) {
		return nil, err
	}
	return s.compare(ctx, key, r, body, stored)
}

// compare looks at the object that is where a record belongs, and replaces it if it is no such record.
func (s *Shipper) compare(ctx context.Context, key string, r *schema.ShippedRecord, body, stored []byte) ([]byte, error) {
	there, tag, err := s.opts.Objects.Get(ctx, key)
	if err != nil {
		return nil, err
	}
	theirs, err := decompress(there, MaxRecord)
	if err == nil && (bytes.Equal(theirs, body) || sameRecord(theirs, r)) {
		return theirs, nil
	}
	if err := s.fence(ctx); err != nil {
		return nil, err
	}
	s.log.WithField("key", key).Warn("ship: a damaged record is replaced")
	s.metrics.healed.Inc()
	_, err = s.opts.Objects.Replace(ctx, key, stored, tag)
	return body, err
}

// sameRecord tells whether JSON is that of a record but for what retention takes.
func sameRecord(body []byte, r *schema.ShippedRecord) bool {
	theirs := &schema.ShippedRecord{}
	if err := strictly(body, theirs); err != nil {
		return false
	}
	ours := *r
	if theirs.PrunedAt == nil && ours.PrunedAt == nil && !bytes.Equal(theirs.Payload, ours.Payload) {
		return false
	}
	if theirs.Raw != nil && ours.Raw != nil && !bytes.Equal(theirs.Raw, ours.Raw) {
		return false
	}
	for _, x := range []*schema.ShippedRecord{theirs, &ours} {
		x.Payload, x.PrunedAt, x.Raw = nil, nil, nil
	}
	left, err := json.Marshal(theirs)
	if err != nil {
		return false
	}
	right, err := json.Marshal(&ours)
	return err == nil && bytes.Equal(left, right)
}

// putHeaders stores the headers of blocks under their heights. One whose header nobody has is there all the same: its key
// tells hash and place.
func (s *Shipper) putHeaders(ctx context.Context, rows []schema.ShippedRow) error {
	uploads, uploading := errgroup.WithContext(ctx)
	uploads.SetLimit(s.opts.Uploads)
	for _, r := range rows {
		if r.Kind != schema.FeedBlock || r.Record == nil || r.Record.Number == nil {
			continue
		}
		uploads.Go(func() error {
			key := s.opts.Header(r.Chain, *r.Record.Number, r.Seq, r.Key)
			err := s.opts.Objects.Create(uploading, key, r.Record.Header)
			if errors.Is(err, objects.ErrExists) {
				return nil
			}
			return err
		})
	}
	return uploads.Wait()
}
