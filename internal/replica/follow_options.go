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
	"github.com/firstseen/firstseen/internal/store"
	"github.com/firstseen/firstseen/schema"
)

// FollowStore is what a Follower writes to; *store.Store is one.
type FollowStore interface {
	// ReplicaReady tells whether the database can be a replica's.
	ReplicaReady(ctx context.Context) error
	// ReplicaPlace returns how far it is; nil where nothing was applied yet.
	ReplicaPlace(ctx context.Context) (*store.ReplicaPlace, error)
	// Apply adds rows and moves the place in one transaction.
	Apply(ctx context.Context, app *store.Application) (store.Applied, error)
	// ApplySide replaces what no row tells.
	ApplySide(ctx context.Context, side *schema.Side) error
	// CheckDigests takes a snapshot and returns the comparison with it.
	CheckDigests(ctx context.Context, theirs []schema.RangeDigest) (func() (store.DigestCheck, error), error)
	// Chains returns where every chain stands.
	Chains(ctx context.Context) ([]schema.ChainState, error)
}

// Getter is what a Follower needs of an object store; internal/objects says what it promises.
type Getter interface {
	Get(ctx context.Context, key string) (body []byte, tag string, err error)
}

// FollowOptions configure a Follower. Names, Store and Objects are required.
type FollowOptions struct {
	Names
	Store   FollowStore
	Objects Getter
	// Broker opens what carries hints about the feed of a role; the Follower closes it. nil: no hints.
	Broker func(role string) (broker.Broker, error)

	Poll     time.Duration // between looks for the next segment without a hint; default 1 s
	Sign     time.Duration // between looks at the writer's checkpoint; default 2 s
	Patience time.Duration // how long something may be missing, damaged or away before Ready says so; default 15 s
	Fetches  int           // records of one segment on their way at once; default 8

	Log        logrus.FieldLogger    // nil discards
	Registerer prometheus.Registerer // nil: no metrics
	Now        func() time.Time      // a clock with a monotonic reading; default time.Now
}

// Validate says what is wrong with the options.
func (o *FollowOptions) Validate() error {
	if err := o.Names.Validate(); err != nil {
		return err
	}
	if o.Store == nil || o.Objects == nil {
		return errors.New("no store or no object store")
	}
	if o.Poll < 0 || o.Sign < 0 || o.Patience < 0 || o.Fetches < 0 {
		return fmt.Errorf("nothing may be negative: poll %s, sign %s, patience %s, fetches %d", o.Poll, o.Sign, o.Patience, o.Fetches)
	}
	return nil
}

func (o *FollowOptions) setDefaults() {
	o.Poll = cmp.Or(o.Poll, time.Second)
	o.Sign = cmp.Or(o.Sign, 2*time.Second)
	o.Patience = cmp.Or(o.Patience, 15*time.Second)
	o.Fetches = cmp.Or(o.Fetches, 8)
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Broker == nil {
		o.Broker = func(string) (broker.Broker, error) { return broker.None{}, nil }
	}
}

// ahead is how many segments are fetched and decoded while another is applied: with that one, so many are in memory.
const ahead = 2
