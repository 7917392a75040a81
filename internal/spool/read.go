package spool

import (
	"cmp"
	"encoding/json"
	"fmt"
	"runtime/debug"
	"slices"
	"sort"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/firstseen/firstseen/schema"
)

// prepare makes what a new file lacks.
func (s *Spool) prepare() error {
	var has bool
	err := look(s.db, func(tx *bolt.Tx) error {
		has = tx.Bucket(stateBucket) != nil
		return nil
	})
	if has || err != nil {
		return err
	}
	return s.update(func(_ *Spool, tx *bolt.Tx) (state, error) {
		for _, name := range buckets {
			if _, err := tx.CreateBucket(name); err != nil {
				return state{}, err
			}
		}
		return state{Kind: s.o.Kind}, nil
	})
}

// load reads from the file what is kept in memory. Entries that were settled, but not deleted yet, do not wait.
func (s *Spool) load() error {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	return look(s.db, func(tx *bolt.Tx) (err error) {
		if s.state, err = getState(tx); err != nil {
			return err
		}
		entries := tx.Bucket(entriesBucket)
		s.state.Stock.Entries = 0
		s.waiting, s.bytes, s.last, s.cleaned = nil, 0, entries.Sequence(), entries.Sequence()
		err = entries.ForEach(func(k, v []byte) error {
			seq, err := keyNumber(k)
			s.cleaned = min(s.cleaned, seq-1)
			s.state.Stock.Entries++
			if err != nil || seq <= s.acked {
				return err
			}
			size := len(v) - 4 - entryHead
			s.waiting = append(s.waiting, place{seq, size, now})
			s.bytes += int64(size)
			return nil
		})
		if err != nil {
			return err
		}
		s.acked = max(s.acked, s.cleaned)
		if s.dead, err = letters(tx); err != nil {
			return err
		}
		s.progress, s.nth, err = getProgress(tx)
		return err
	})
}

// look runs a read-only transaction. A page that the disk does not give is an error like any other.
func look(db *bolt.DB, read func(*bolt.Tx) error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer recoverTo(&err)
	return db.View(read)
}

func getState(tx *bolt.Tx) (state, error) {
	body, err := unseal(stateKey, tx.Bucket(stateBucket).Get(stateKey))
	if err != nil {
		return state{}, err
	}
	return parseState(body)
}

// getProgress reads what was finished and left out, and how many blocks were ever finished.
func getProgress(tx *bolt.Tx) (p Progress, nth uint64, err error) {
	type slot struct {
		nth   uint64
		point schema.Point
	}
	var slots []slot
	err = tx.Bucket(finishedBucket).ForEach(func(k, v []byte) error {
		body, err := unseal(k, v)
		if err != nil {
			return err
		}
		n, point, err := parseFinished(body)
		slots = append(slots, slot{n, point})
		return err
	})
	if err != nil {
		return p, 0, err
	}
	slices.SortFunc(slots, func(a, b slot) int { return cmp.Compare(a.nth, b.nth) })
	for _, s := range slots {
		p.Finished = append(p.Finished, s.point)
		nth = s.nth + 1
	}
	err = tx.Bucket(gapsBucket).ForEach(func(k, v []byte) error {
		g, err := parseGap(k, v)
		p.Gaps = append(p.Gaps, g)
		return err
	})
	return p, nth, err
}

func parseGap(key, value []byte) (g schema.Gap, err error) {
	body, err := unseal(key, value)
	if err != nil {
		return g, err
	}
	if err := json.Unmarshal(body, &g); err != nil {
		return g, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return g, nil
}

func getEntry(tx *bolt.Tx, seq uint64) (Entry, error) {
	key := numberKey(seq)
	body, err := unseal(key, tx.Bucket(entriesBucket).Get(key))
	if err != nil {
		return Entry{}, fmt.Errorf("entry %d: %w", seq, err)
	}
	return parseEntry(seq, body)
}

// Progress returns how far the observer had got when the spool was opened.
func (s *Spool) Progress() Progress {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.progress
	p.Chain, p.Start, p.Halted = s.state.Chain, s.state.Start, s.state.Halted
	return p
}

// After returns the oldest entry that is newer than seq and not settled; ok is false if there is none, or if it cannot
// be read, which Ready tells.
func (s *Spool) After(seq uint64) (e Entry, ok bool) {
	s.opened.RLock()
	defer s.opened.RUnlock()
	s.mu.Lock()
	i := sort.Search(len(s.waiting), func(i int) bool { return s.waiting[i].seq > seq })
	if i == len(s.waiting) || s.db == nil {
		s.mu.Unlock()
		return e, false
	}
	p := s.waiting[i]
	s.mu.Unlock()
	err := look(s.db, func(tx *bolt.Tx) (err error) {
		e, err = getEntry(tx, p.seq)
		e.Frame, e.Since = slices.Clone(e.Frame), p.since
		return err
	})
	if err != nil {
		s.broken(err)
	}
	return e, err == nil
}

// Ack forgets the entries up to seq: a server has them for good. The file follows later; an entry that comes back
// because of a crash is delivered twice, which costs less than a write for each ack.
func (s *Spool) Ack(seq uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.waiting) > 0 && s.waiting[0].seq <= seq {
		s.pop()
	}
	s.makeRoom()
	if s.acked-s.cleaned > maxSettled {
		signal(s.wake)
	}
}

// Fail puts the oldest entry with the dead letters: no server will take it.
func (s *Spool) Fail(reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.waiting) == 0 {
		return
	}
	s.fails = append(s.fails, failure{s.waiting[0].seq, reason, s.o.Now()})
	s.pop()
	s.makeRoom()
	signal(s.wake)
}

// pop settles the oldest entry. The caller holds mu.
func (s *Spool) pop() {
	s.acked = s.waiting[0].seq
	s.bytes -= int64(s.waiting[0].size)
	s.waiting = s.waiting[1:]
}

// makeRoom signals at three quarters: what was not taken is read again, and that should not be done for one place after
// the other. The caller holds mu.
func (s *Spool) makeRoom() {
	if s.refused && s.sick == nil && len(s.waiting) <= s.o.MaxEntries*3/4 && s.bytes <= s.o.MaxBytes*3/4 {
		s.refused = false
		signal(s.room)
	}
}

// More receives after entries came. Several events may give one signal.
func (s *Spool) More() <-chan struct{} { return s.more }

// Room receives when a spool that was full has become empty enough, or one that could not be written can be again.
func (s *Spool) Room() <-chan struct{} { return s.room }

// Free returns how many entries there is room for, if they are not large.
func (s *Spool) Free() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(s.waiting)
	if s.sick != nil || n > 0 && (n >= s.o.MaxEntries || s.bytes >= s.o.MaxBytes) {
		return 0
	}
	return max(1, s.o.MaxEntries-n)
}

// Depth returns how many entries and bytes of frames wait, and since when the oldest does in this process.
func (s *Spool) Depth() (entries int, bytes int64, oldest time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.waiting) > 0 {
		oldest = s.waiting[0].since
	}
	return len(s.waiting), s.bytes, oldest
}

// Counts are totals since Open.
type Counts struct {
	Commits  uint64  // transactions
	Seconds  float64 // that they took
	Failures uint64  // transactions that failed
	SetAside bool    // the file that was there was damaged
}

// Counts returns the totals.
func (s *Spool) Counts() Counts {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counts
}

// Letters returns the dead letters, oldest first, without their frames.
func (s *Spool) Letters() []Letter {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.dead)
}

// letters reads the dead letters without their frames.
func letters(tx *bolt.Tx) (out []Letter, err error) {
	err = tx.Bucket(lettersBucket).ForEach(func(k, v []byte) error {
		body, err := unseal(k, v)
		if err != nil {
			return err
		}
		seq, err := keyNumber(k)
		if err != nil {
			return err
		}
		l, err := parseLetter(seq, body)
		l.Frame = nil
		out = append(out, l)
		return err
	})
	return out, err
}
