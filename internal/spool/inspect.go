package spool

import (
	"errors"
	"fmt"
	"os"
	"slices"

	bolt "go.etcd.io/bbolt"

	"github.com/firstseen/firstseen/schema"
)

// Contents is what a spool holds, without the frames.
type Contents struct {
	Kind      string
	FileBytes int64
	Progress  Progress
	Entries   []Entry  // waiting, oldest first
	Letters   []Letter // oldest first
	Dropped   uint64   // letters that made room for newer ones
}

// Inspect reads the spool at path and changes nothing. The error is ErrInUse when a process has it open, and
// os.ErrNotExist when there is none.
func Inspect(path string) (*Contents, error) {
	c, err := inspect(path)
	if err != nil {
		return nil, fmt.Errorf("spool %s: %w", path, err)
	}
	return c, nil
}

func inspect(path string) (*Contents, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if err := verify(path); err != nil {
		return nil, orInUse(path, err)
	}
	db, err := view(path)
	if err != nil {
		return nil, err
	}
	defer db.Close()
	c := &Contents{FileBytes: info.Size()}
	return c, db.View(c.read)
}

// orInUse is ErrInUse in place of damage to a file that somebody has open: pages that are written while they are read
// look like that.
func orInUse(path string, err error) error {
	if !errors.Is(err, ErrDamaged) {
		return err
	}
	held, busy := lock(path)
	if errors.Is(busy, ErrInUse) {
		return busy
	}
	if busy == nil {
		_ = held.Close() // nothing was written to it
	}
	return err
}

func (c *Contents) read(tx *bolt.Tx) error {
	if tx.Bucket(stateBucket) == nil {
		return fmt.Errorf("%w: it was made, but never used", errForeign)
	}
	st, err := getState(tx)
	if err != nil {
		return err
	}
	if c.Progress, _, err = getProgress(tx); err != nil {
		return err
	}
	c.Kind, c.Dropped, c.Progress.Chain, c.Progress.Start = st.Kind, st.Dropped, st.Chain, st.Start
	c.Progress.Halted = st.Halted
	if c.Letters, err = letters(tx); err != nil {
		return err
	}
	return tx.Bucket(entriesBucket).ForEach(func(k, _ []byte) error {
		seq, err := keyNumber(k)
		if err != nil {
			return err
		}
		e, err := getEntry(tx, seq)
		e.Frame = nil
		c.Entries = append(c.Entries, e)
		return err
	})
}

// Remove deletes entries and dead letters by number. A block that waited becomes a gap, since it will not be delivered
// now. It is for a spool that nothing else uses.
func (s *Spool) Remove(seqs []uint64) (entries, letters int, err error) {
	err = s.update(func(_ *Spool, tx *bolt.Tx) (state, error) {
		st := s.same()
		var gaps []schema.Gap
		for _, seq := range slices.Sorted(slices.Values(seqs)) {
			key := numberKey(seq)
			if tx.Bucket(lettersBucket).Get(key) != nil {
				letters++
				if err := tx.Bucket(lettersBucket).Delete(key); err != nil {
					return st, err
				}
			}
			if tx.Bucket(entriesBucket).Get(key) == nil {
				continue
			}
			e, err := getEntry(tx, seq)
			if err != nil {
				return st, err
			}
			entries++
			st.Stock.Entries--
			gaps = append(gaps, schema.Gap{Chain: s.state.Chain, From: e.Point.Number, To: e.Point.Number,
				Reason: "removed from the spool by hand"})
			if err := tx.Bucket(entriesBucket).Delete(key); err != nil {
				return st, err
			}
		}
		return st, putGaps(tx, gaps)
	})
	if err == nil {
		err = s.load()
	}
	if err != nil {
		return 0, 0, fmt.Errorf("spool %s: %w", s.path, err)
	}
	return entries, letters, nil
}

// Retry puts dead letters back among what waits, as the newest, by number. It is for a spool that nothing else uses.
func (s *Spool) Retry(seqs []uint64) (retried int, err error) {
	err = s.update(func(_ *Spool, tx *bolt.Tx) (state, error) {
		st := s.same()
		letters, entries := tx.Bucket(lettersBucket), tx.Bucket(entriesBucket)
		for _, seq := range slices.Sorted(slices.Values(seqs)) {
			key := numberKey(seq)
			body := letters.Get(key)
			if body == nil {
				continue
			}
			l, err := openLetter(seq, key, body)
			if err != nil {
				return st, err
			}
			n, err := entries.NextSequence()
			if err != nil {
				return st, err
			}
			fresh := numberKey(n)
			if err := entries.Put(fresh, seal(fresh, appendEntry(nil, l.Entry))); err != nil {
				return st, err
			}
			if err := letters.Delete(key); err != nil {
				return st, err
			}
			st.Stock.Entries++
			retried++
		}
		return st, nil
	})
	if err == nil {
		err = s.load()
	}
	if err != nil {
		return 0, fmt.Errorf("spool %s: %w", s.path, err)
	}
	return retried, nil
}

func openLetter(seq uint64, key, value []byte) (Letter, error) {
	body, err := unseal(key, value)
	if err != nil {
		return Letter{}, err
	}
	return parseLetter(seq, body)
}

// ForgetGaps deletes the heights left out that are remembered: servers are not told of them again.
func (s *Spool) ForgetGaps() error {
	err := s.update(func(_ *Spool, tx *bolt.Tx) (state, error) {
		ever := tx.Bucket(gapsBucket).Sequence()
		if err := tx.DeleteBucket(gapsBucket); err != nil {
			return state{}, err
		}
		b, err := tx.CreateBucket(gapsBucket)
		if err != nil {
			return state{}, err
		}
		return s.same(), b.SetSequence(ever)
	})
	if err != nil {
		return fmt.Errorf("spool %s: %w", s.path, err)
	}
	return s.load()
}
