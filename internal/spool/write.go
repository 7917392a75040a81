package spool

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/firstseen/firstseen/schema"
)

// Bounds of what is kept beside the entries. Beyond them the oldest make room: letters counted, gaps joined.
const (
	maxLetters     = 256
	maxLetterBytes = 16 << 20
	maxGaps        = 64
)

// maxSettled is how many settled entries wait for the next Append, or the next tick, before they are deleted at once.
const maxSettled = 1024

// request is an Append, or a Begin, that waits for the disk.
type request struct {
	blocks []Block
	begin  *beginning    // what Begin sets
	halt   *schema.Gap   // what Halt does
	done   chan struct{} // closed once the rest is set
	taken  int
	err    error
}

// beginning is where an observer begins.
type beginning struct {
	state
	known []schema.Point
}

// failure is an entry on its way to the dead letters.
type failure struct {
	seq    uint64
	reason string
	at     time.Time
}

// work is what one transaction writes.
type work struct {
	requests []*request
	entries  []Entry // of the blocks taken
	finished []schema.Point
	anew     bool // what was finished before does not count any more
	gaps     []schema.Gap
	state    state
	bytes    int

	fails []failure
	clean uint64 // settled entries up to here
}

// Append makes the blocks durable, in order, and counts them as finished. It returns how many it took: all of them, or
// those before the first for which there was no room, with ErrFull. A spool that is empty takes one of any size.
func (s *Spool) Append(blocks []Block) (taken int, err error) {
	r := s.enqueue(&request{blocks: blocks})
	return r.taken, r.err
}

// Begin makes durable where the observer begins: what it leaves out, and which blocks, oldest first, count as finished
// in place of all that did. It ends a halt. A spool belongs to one chain for ever.
func (s *Spool) Begin(chain uint64, start Start, known []schema.Point, gaps ...schema.Gap) error {
	r := &request{begin: &beginning{state{Chain: chain, Start: start}, known}}
	for _, g := range gaps {
		r.blocks = append(r.blocks, Block{Gap: &g})
	}
	return s.enqueue(r).err
}

// Halt makes durable that the observer stopped for good, and why: heights that it will not deliver.
func (s *Spool) Halt(g schema.Gap) error {
	return s.enqueue(&request{halt: &g}).err
}

// enqueue hands the request to the committer and waits for its end.
func (s *Spool) enqueue(r *request) *request {
	r.done = make(chan struct{})
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		r.err = ErrClosed
		return r
	}
	s.queue = append(s.queue, r)
	s.mu.Unlock()
	signal(s.wake)
	<-r.done
	return r
}

// run is the committer: it writes whatever came while it wrote the last, with no wait to gather more.
func (s *Spool) run() {
	defer close(s.done)
	retry := time.NewTicker(s.o.Retry)
	defer retry.Stop()
	for {
		select {
		case <-s.wake:
			s.commit()
		case <-retry.C:
			s.heal()
			s.commit() // what was settled
		case <-s.quit:
			s.commit()
			return
		}
	}
}

// commit writes what is queued in one transaction, and answers.
func (s *Spool) commit() {
	w := s.take()
	if w == nil {
		return
	}
	began := time.Now()
	err := s.update(w.write)
	if err != nil {
		s.ail(w, err)
		return
	}
	s.settle(w, time.Since(began))
}

// take draws up the next transaction, nil if there is none to write. While the disk is sick nothing is taken in.
func (s *Spool) take() *work {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := &work{requests: s.queue, fails: s.fails, clean: s.acked, state: s.state}
	s.queue = nil
	if s.sick != nil {
		for _, r := range w.requests {
			s.refused = true
			r.err = fmt.Errorf("%w: %w", ErrFull, s.sick)
			close(r.done)
		}
		return nil
	}
	for _, r := range w.requests {
		s.admit(w, r)
	}
	if w.state == s.state && !w.anew && len(w.finished)+len(w.gaps)+len(w.fails) == 0 && w.clean == s.cleaned {
		for _, r := range w.requests {
			close(r.done)
		}
		return nil
	}
	return w
}

// admit takes as much of the request as there is room for. The caller holds mu.
func (s *Spool) admit(w *work, r *request) {
	if r.begin != nil {
		if r.err = s.beginnable(r.begin); r.err != nil {
			return
		}
		w.state.Chain, w.state.Start, w.state.Halted = r.begin.Chain, r.begin.Start, nil
		w.finished, w.anew = r.begin.known, true
	}
	if r.halt != nil {
		w.state.Halted = r.halt
		w.gaps = append(w.gaps, *r.halt)
	}
	for _, b := range r.blocks {
		if b.Gap != nil {
			w.gaps = append(w.gaps, *b.Gap)
		}
		if r.begin != nil {
			continue
		}
		if b.Frame != nil {
			if !s.fits(len(w.entries), w.bytes, len(b.Frame)) {
				s.refused = true
				r.err = ErrFull
				return
			}
			w.entries = append(w.entries, Entry{Seq: s.last + uint64(len(w.entries)) + 1, Point: b.Point, Frame: b.Frame,
				Since: s.o.Now()})
			w.bytes += len(b.Frame)
		}
		w.finished = append(w.finished, b.Point)
		r.taken++
	}
}

// beginnable tells whether the spool may be used for a chain. The caller holds mu.
func (s *Spool) beginnable(b *beginning) error {
	if s.state.Chain != 0 && s.state.Chain != b.Chain {
		return fmt.Errorf("spool %s belongs to chain %d, not %d", s.path, s.state.Chain, b.Chain)
	}
	return nil
}

// fits tells whether there is room for one more frame beside so many new ones. The caller holds mu.
func (s *Spool) fits(entries, bytes, frame int) bool {
	n := len(s.waiting) + entries
	return n == 0 || n < s.o.MaxEntries && s.bytes+int64(bytes)+int64(frame) <= s.o.MaxBytes
}

// write is the transaction. Settled entries go first: their pages may be what the new ones need.
func (w *work) write(s *Spool, tx *bolt.Tx) (state, error) {
	if err := w.bury(tx); err != nil {
		return w.state, err
	}
	cleaned, err := clean(tx, w.clean)
	if err != nil {
		return w.state, err
	}
	if err := w.putEntries(tx); err != nil {
		return w.state, err
	}
	w.state.Stock.Entries += len(w.entries) - cleaned
	if err := w.putFinished(tx, s.nth); err != nil {
		return w.state, err
	}
	return w.state, putGaps(tx, w.gaps)
}

// putFinished adds to the ring, nth being how many there ever were.
func (w *work) putFinished(tx *bolt.Tx, nth uint64) error {
	if w.anew {
		if err := tx.DeleteBucket(finishedBucket); err != nil {
			return err
		}
		if _, err := tx.CreateBucket(finishedBucket); err != nil {
			return err
		}
	}
	finished := tx.Bucket(finishedBucket)
	for i, p := range w.finished {
		n := nth + uint64(i)
		key := numberKey(n % Window)
		if err := finished.Put(key, seal(key, appendFinished(nil, n, p))); err != nil {
			return err
		}
	}
	return nil
}

func (w *work) putEntries(tx *bolt.Tx) error {
	entries := tx.Bucket(entriesBucket)
	entries.FillPercent = 1 // keys only rise
	for _, e := range w.entries {
		key := numberKey(e.Seq)
		if err := entries.Put(key, seal(key, appendEntry(make([]byte, 0, entryHead+len(e.Frame)), e))); err != nil {
			return err
		}
	}
	if n := len(w.entries); n > 0 {
		return entries.SetSequence(w.entries[n-1].Seq)
	}
	return nil
}

// bury moves failed entries to the dead letters.
func (w *work) bury(tx *bolt.Tx) error {
	letters := tx.Bucket(lettersBucket)
	for _, f := range w.fails {
		key := numberKey(f.seq)
		if tx.Bucket(entriesBucket).Get(key) == nil {
			continue // done already, by a transaction that seemed to fail
		}
		e, err := getEntry(tx, f.seq)
		if err != nil {
			return err
		}
		if err := letters.Put(key, seal(key, appendLetter(nil, Letter{Entry: e, Reason: f.reason, At: f.at}))); err != nil {
			return err
		}
	}
	if len(w.fails) == 0 {
		return nil
	}
	dropped, err := trimLetters(letters)
	w.state.Dropped += uint64(dropped)
	return err
}

// trimLetters drops the oldest beyond the bounds. The newest stays whatever its size.
func trimLetters(letters *bolt.Bucket) (dropped int, err error) {
	var drop [][]byte
	count, bytes := 0, 0
	c := letters.Cursor()
	for k, v := c.Last(); k != nil; k, v = c.Prev() {
		count++
		bytes += len(v)
		if count > 1 && (count > maxLetters || bytes > maxLetterBytes) {
			drop = append(drop, append([]byte(nil), k...))
		}
	}
	for _, k := range drop {
		if err := letters.Delete(k); err != nil {
			return 0, err
		}
	}
	return len(drop), nil
}

// clean deletes entries up to seq, and counts them.
func clean(tx *bolt.Tx, seq uint64) (int, error) {
	entries := tx.Bucket(entriesBucket)
	var keys [][]byte
	c := entries.Cursor()
	for k, _ := c.First(); k != nil; k, _ = c.Next() {
		if n, err := keyNumber(k); err != nil || n > seq {
			break
		}
		keys = append(keys, append([]byte(nil), k...))
	}
	for _, k := range keys {
		if err := entries.Delete(k); err != nil {
			return 0, err
		}
	}
	return len(keys), nil
}

// putState is the last that a transaction writes.
func putState(tx *bolt.Tx, st state) (err error) {
	st.Version = version
	if st.Stock, err = takeStock(tx, st.Stock.Entries); err != nil {
		return err
	}
	body, err := json.Marshal(st)
	if err != nil {
		return err
	}
	return tx.Bucket(stateBucket).Put(stateKey, seal(stateKey, body))
}

// putGaps adds gaps; beyond the bound the two oldest become one, so that no height is forgotten.
func putGaps(tx *bolt.Tx, more []schema.Gap) error {
	if len(more) == 0 {
		return nil
	}
	b := tx.Bucket(gapsBucket)
	for _, g := range more {
		n, err := b.NextSequence()
		if err != nil {
			return err
		}
		if err := putGap(b, numberKey(n), g); err != nil {
			return err
		}
	}
	for b.Inspect().KeyN > maxGaps {
		if err := joinOldest(b); err != nil {
			return err
		}
	}
	return nil
}

func putGap(b *bolt.Bucket, key []byte, g schema.Gap) error {
	body, err := json.Marshal(g)
	if err != nil {
		return err
	}
	return b.Put(key, seal(key, body))
}

func joinOldest(b *bolt.Bucket) error {
	c := b.Cursor()
	k1, v1 := c.First()
	k2, v2 := c.Next()
	g1, err1 := parseGap(k1, v1)
	g2, err2 := parseGap(k2, v2)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	g2.From, g2.To = min(g1.From, g2.From), max(g1.To, g2.To)
	oldest := append([]byte(nil), k1...)
	if err := putGap(b, append([]byte(nil), k2...), g2); err != nil {
		return err
	}
	return b.Delete(oldest)
}
