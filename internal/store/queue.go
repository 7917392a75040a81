package store

import (
	"context"
	"crypto/rand"
	"fmt"
	"sync"

	"golang.org/x/sync/semaphore"

	"github.com/firstseen/firstseen/schema"
)

const (
	defaultQueueRows  = 4096
	defaultQueueBytes = 32 << 20
	batchRows         = 256
	batchBytes        = 1 << 20
)

// token marks the row that one offer inserted. It stays the same over every retry of that offer.
type token [16]byte

// pending is an offer between Offer and its settlement.
type pending struct {
	offer *schema.Offer
	token token
	size  int64
	done  func(schema.Settlement)
}

// queue holds pending offers in order of arrival, bounded by rows and by bytes. When it is full, put waits its turn:
// whoever waits longest goes first. What a batch took still counts until it is settled, so the bounds hold for
// everything in memory.
type queue struct {
	rows, bytes *semaphore.Weighted
	maxBytes    int64
	ready       chan struct{} // holds one mark while items may be there

	mu     sync.Mutex // guards what follows
	items  []*pending
	closed bool
	held   int64 // bytes held
	count  int   // rows held
}

func newQueue(rows int, bytes int64) *queue {
	return &queue{
		rows:     semaphore.NewWeighted(int64(rows)),
		bytes:    semaphore.NewWeighted(bytes),
		maxBytes: bytes,
		ready:    make(chan struct{}, 1),
	}
}

// newPending weighs an offer and gives it its token.
func newPending(offer *schema.Offer, done func(schema.Settlement)) *pending {
	const perRow, perTransaction = 512, 256 // about what their other fields take
	p := &pending{offer: offer, done: done}
	p.size = int64(perRow + len(offer.Payload) + perTransaction*len(offer.Transactions))
	_, _ = rand.Read(p.token[:]) // never fails: crypto/rand ends the program instead
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
	q.items = append(q.items, p)
	q.count++
	q.held += p.size
	q.wake()
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

// take removes the next batch: what is there, up to the batch's bounds; a single offer may exceed them.
func (q *queue) take() []*pending {
	q.mu.Lock()
	defer q.mu.Unlock()
	n, size := 0, int64(0)
	for n < len(q.items) && n < batchRows && (n == 0 || size+q.items[n].size <= batchBytes) {
		size += q.items[n].size
		n++
	}
	batch := append([]*pending(nil), q.items[:n]...)
	rest := copy(q.items, q.items[n:])
	clear(q.items[rest:])
	q.items = q.items[:rest]
	if rest > 0 {
		q.wake()
	}
	return batch
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
	q.items = nil
	return left
}

// depth tells how many rows and bytes are held.
func (q *queue) depth() (rows int, bytes int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.count, q.held
}
