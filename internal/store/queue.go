package store

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"sync"

	"golang.org/x/sync/semaphore"

	"github.com/firstseen/firstseen/schema"
)

const (
	defaultQueueRows  = 4096
	defaultQueueBytes = 32 << 20
	batchRows         = 256     // new records of one transaction
	batchBytes        = 1 << 20 // of new records; a single one may be bigger
	batchOffers       = 1024    // offers of one transaction, those of records that are stored already too
)

// token marks the row that one offer inserted. It stays the same over every retry of that offer.
type token [16]byte

// recordKey identifies a record.
type recordKey struct {
	chain uint64
	hash  schema.Hash
}

// pending is an offer between Offer and its settlement.
type pending struct {
	offer *schema.Offer
	key   recordKey // not set for one that is bad
	bad   error     // why it can never be stored
	token token
	size  int64
	done  func(schema.Settlement)

	// What follows belongs to the dispatcher, and to the flight that the offer is on.
	known  bool          // the record was committed before this flight
	guess  schema.Status // what the record's status will probably be
	id     uint64        // the record's, 0 while nothing needed it
	answer schema.Settlement
}

// queue holds pending offers in order of arrival, bounded by rows and by bytes. When it is full, put waits its turn:
// whoever waits longest goes first. What was taken still counts until it is settled, so the bounds hold for everything in
// memory.
type queue struct {
	rows, bytes *semaphore.Weighted
	maxBytes    int64
	ready       chan struct{} // holds a mark once items came to an empty queue, or to a full batch

	mu      sync.Mutex // guards what follows
	items   []*pending
	waiting int64 // bytes of items
	closed  bool
	held    int64 // bytes held
	count   int   // rows held
}

func newQueue(rows int, bytes int64) *queue {
	return &queue{
		rows:     semaphore.NewWeighted(int64(rows)),
		bytes:    semaphore.NewWeighted(bytes),
		maxBytes: bytes,
		ready:    make(chan struct{}, 1),
	}
}

// newPending checks and weighs an offer and gives it its token, while the committer has other things to do.
func newPending(offer *schema.Offer, done func(schema.Settlement)) *pending {
	const perRow, perTransaction = 512, 256 // about what their other fields take
	p := &pending{offer: offer, done: done}
	p.size = int64(perRow + len(offer.Payload) + len(offer.Raw) + len(offer.HeaderRLP) + perTransaction*len(offer.Transactions))
	if p.bad = screen(offer); p.bad != nil {
		return p
	}
	p.key.chain = offer.Chain
	_, _ = hex.Decode(p.key.hash[:], []byte(offer.Key)) // screen has seen that it is hex
	_, _ = rand.Read(p.token[:])                        // never fails: crypto/rand ends the program instead
	return p
}

func (q *queue) put(ctx context.Context, p *pending) error {
	if err := q.rows.Acquire(ctx, 1); err != nil {
		return fmt.Errorf("queue offer: %w", err)
	}
	if err := q.bytes.Acquire(ctx, q.weight(p)); err != nil {
		q.rows.Release(1)
		return fmt.Errorf("queue offer: %w", err)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		q.rows.Release(1)
		q.bytes.Release(q.weight(p))
		return ErrStopped
	}
	full := q.full()
	q.items = append(q.items, p)
	q.waiting += p.size
	q.count++
	q.held += p.size
	if len(q.items) == 1 || !full && q.full() {
		q.wake()
	}
	return nil
}

// weight is what an offer takes of the queue's bytes: one that is bigger than the whole queue takes all of it.
func (q *queue) weight(p *pending) int64 { return min(p.size, q.maxBytes) }

// wake leaves a mark for the committer; called with mu held.
func (q *queue) wake() {
	select {
	case q.ready <- struct{}{}:
	default:
	}
}

// full tells whether a batch's worth waits; called with mu held.
func (q *queue) full() bool { return len(q.items) >= batchRows || q.waiting >= batchBytes }

// deep is full for those who do not hold mu.
func (q *queue) deep() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.full()
}

// take hands out offers in order of arrival until one does not fit or none is left. Those that were taken still count
// until they are settled.
func (q *queue) take(fits func(*pending) bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := 0
	for n < len(q.items) && fits(q.items[n]) {
		q.waiting -= q.items[n].size
		n++
	}
	rest := copy(q.items, q.items[n:])
	clear(q.items[rest:])
	q.items = q.items[:rest]
}

// settle answers one offer and gives its place to the next.
func (q *queue) settle(p *pending, answer schema.Settlement) {
	p.done(answer)
	q.mu.Lock()
	q.count--
	q.held -= p.size
	q.mu.Unlock()
	q.rows.Release(1)
	q.bytes.Release(q.weight(p))
}

// close refuses further offers and returns those that nobody will commit.
func (q *queue) close() []*pending {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	left := q.items
	q.items, q.waiting = nil, 0
	return left
}

// depth tells how many rows and bytes are held.
func (q *queue) depth() (rows int, bytes int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.count, q.held
}
