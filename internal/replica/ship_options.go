package replica

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"github.com/firstseen/firstseen/internal/broker"
	"github.com/firstseen/firstseen/schema"
)

// ShipStore is what a Shipper reads; internal/store has it all.
type ShipStore interface {
	// Shipment returns up to limit rows after a seq, with all of their records; fewer once it has read so many bytes.
	Shipment(ctx context.Context, after uint64, limit, bytes int) ([]schema.ShippedRow, error)
	// SightingsOf returns who else saw records.
	SightingsOf(ctx context.Context, records []uint64) ([]schema.ShippedSighting, error)
	// SightingsSince returns what servers received since a time, and the store's clock before it looked.
	SightingsSince(ctx context.Context, since time.Time, limit int) ([]schema.ShippedSighting, time.Time, error)
	// Side returns what no row tells.
	Side(ctx context.Context) (*schema.Side, error)
	// Digests reads the end of the feed, chains and digests from one snapshot.
	Digests(ctx context.Context, ranges ...schema.HeightRange) (
		schema.FeedEnd, []schema.ChainState, []schema.RangeDigest, error)
}

// ShipObjects is what a Shipper needs of an object store; internal/objects says what its methods promise.
type ShipObjects interface {
	Get(ctx context.Context, key string) (body []byte, tag string, err error)
	Create(ctx context.Context, key string, body []byte) error
	Replace(ctx context.Context, key string, body []byte, tag string) (newTag string, err error)
	Delete(ctx context.Context, key string) error
	List(ctx context.Context, prefix, after string, limit int) ([]string, error)
}

// Teller passes on that a segment is there. It must not block.
type Teller interface {
	Tell(ctx context.Context, p broker.Pointer)
}

// ShipOptions configure a Shipper. Names, Store and Objects are required.
type ShipOptions struct {
	Names
	Store   ShipStore
	Objects ShipObjects
	Broker  Teller          // told of every segment; nil: nobody
	News    <-chan struct{} // an element: the feed has grown; nil: the feed is only polled
	Holder  string          // who ships, for people; default "unknown"

	Poll    time.Duration // between looks at the feed without news; default and most 1 s
	Uploads int           // objects on their way at once; default 32
	Grace   time.Duration // how long a live segment stays once a bulk one holds its rows; default 10 min
	Digest  time.Duration // between ranges that are summed up once more for replicas to compare; default 10 s

	Log        logrus.FieldLogger    // nil discards
	Registerer prometheus.Registerer // nil: no metrics
	Now        func() time.Time      // default time.Now

	sizes
}

// sizes bound segments, and with them the memory that a Shipper takes: a few times bulkBytes.
type sizes struct {
	liveRows  int // most rows of a live segment
	liveBytes int // of the records of a live segment, about
	bulkRows  int // rows of a bulk segment, unless they are large
	bulkBytes int // of the records of a bulk segment, about
}

// maxPoll keeps replicas within a second of a feed that nobody tells of.
const maxPoll = time.Second

// Validate says what is wrong with the options.
func (o *ShipOptions) Validate() error {
	if err := o.Names.Validate(); err != nil {
		return err
	}
	if o.Store == nil || o.Objects == nil {
		return errors.New("no store or no object store")
	}
	if o.Poll < 0 || o.Poll > maxPoll || o.Uploads < 0 || o.Grace < 0 || o.Digest < 0 {
		return fmt.Errorf("poll must be at most %s, and nothing may be negative", maxPoll)
	}
	return nil
}

func (o *ShipOptions) setDefaults() {
	o.Holder = cmp.Or(o.Holder, "unknown")
	o.Poll = cmp.Or(o.Poll, maxPoll)
	o.Uploads = cmp.Or(o.Uploads, 32)
	o.Grace = cmp.Or(o.Grace, 10*time.Minute)
	o.Digest = cmp.Or(o.Digest, 10*time.Second)
	if o.Now == nil {
		o.Now = time.Now
	}
	o.liveRows = cmp.Or(o.liveRows, 256)
	o.liveBytes = cmp.Or(o.liveBytes, 4<<20)
	o.bulkRows = cmp.Or(o.bulkRows, 4096)
	o.bulkBytes = cmp.Or(o.bulkBytes, 24<<20)
}
