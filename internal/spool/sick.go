package spool

import (
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"syscall"
	"time"

	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

// update runs a transaction on the file. write returns the state that it leaves.
func (s *Spool) update(write func(*Spool, *bolt.Tx) (state, error)) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer recoverTo(&err)
	s.opened.RLock()
	defer s.opened.RUnlock()
	if s.db == nil {
		return berrors.ErrDatabaseNotOpen
	}
	return s.db.Update(func(tx *bolt.Tx) error {
		st, err := write(s, tx)
		if err != nil {
			return err
		}
		return putState(tx, st)
	})
}

// same leaves the state as it is.
func (s *Spool) same() state {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state
}

// settle notes what was written, and answers.
func (s *Spool) settle(w *work, took time.Duration) {
	var dead []Letter
	if len(w.fails) > 0 {
		dead = s.readLetters()
	}
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range w.entries {
		s.waiting = append(s.waiting, place{e.Seq, len(e.Frame), now})
		s.last = e.Seq
	}
	s.bytes += int64(w.bytes)
	s.nth += uint64(len(w.finished))
	s.state = w.state
	s.cleaned = max(s.cleaned, w.clean)
	s.fails = s.fails[len(w.fails):]
	if dead != nil {
		s.dead = dead
	}
	s.counts.Commits++
	s.counts.Seconds += took.Seconds()
	for _, r := range w.requests {
		close(r.done)
	}
	if len(w.entries) > 0 {
		signal(s.more)
	}
}

func (s *Spool) readLetters() (dead []Letter) {
	s.opened.RLock()
	defer s.opened.RUnlock()
	err := look(s.db, func(tx *bolt.Tx) (err error) {
		dead, err = letters(tx)
		return err
	})
	if err != nil {
		s.broken(err)
	}
	return dead
}

// broken notes a record that was whole when the spool was opened, and is not any more. What waits behind it must not be
// skipped, so nothing moves from here on; whoever uses the spool closes it and opens it again, which puts the file aside.
func (s *Spool) broken(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.isDamaged {
		return
	}
	s.sick, s.isDamaged = err, true
	close(s.damaged)
	s.log.WithError(err).Error("spool is damaged: nothing moves until it is opened anew")
}

// Damaged is closed once the file is found to be damaged while it is in use.
func (s *Spool) Damaged() <-chan struct{} { return s.damaged }

// ail notes that the file could not be written: nothing is taken in until it can. The file is opened anew, because
// after a failed write what is in memory and what is on disk may differ, and the disk is what counts.
func (s *Spool) ail(w *work, err error) {
	s.mu.Lock()
	s.counts.Failures++
	s.sick, s.wanted, s.refused = err, w.bytes, true
	s.mu.Unlock()
	s.log.WithError(err).Error("spool cannot be written: reading the chain stops until it can")
	if bad := s.suspect(err); bad != nil {
		s.broken(bad)
	} else if err := s.reopen(); err != nil {
		s.log.WithError(err).Error("spool cannot be opened again")
	}
	for _, r := range w.requests {
		r.taken = 0
		r.err = errors.Join(r.err, fmt.Errorf("%w: %w", ErrFull, err))
		close(r.done)
	}
}

// suspect looks for damage after a failure. A full disk leaves none, and lasts long.
func (s *Spool) suspect(why error) error {
	if errors.Is(why, syscall.ENOSPC) || errors.Is(why, syscall.EDQUOT) {
		return nil
	}
	if err := verify(s.path); errors.Is(err, ErrDamaged) {
		return err
	}
	return nil
}

// reopen opens the file again and reads back what is in it.
func (s *Spool) reopen() error {
	s.opened.Lock()
	defer s.opened.Unlock()
	if s.db != nil {
		_ = s.db.Close() // it failed before, and is not to be trusted with more
		s.db = nil
	}
	if err := flushRoots(s.path); err != nil {
		return err
	}
	db, err := openFile(s.path, false)
	if err != nil {
		return err
	}
	s.db = db
	if err := s.load(); err != nil {
		return errors.Join(err, db.Close())
	}
	return nil
}

// flushRoots writes the file's two roots once more, as they are read. After a flush that failed the system takes what it
// could not write for written: the newer root may be in its memory only, and the next transactions would overwrite
// pages of the older one, which is what a power failure leaves.
func flushRoots(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	b, err := openBolt(f)
	if err != nil {
		return err
	}
	roots := make([]byte, 2*b.pageSize)
	if err := b.read(roots, 0); err != nil {
		return err
	}
	if _, err := f.WriteAt(roots, 0); err != nil {
		return err
	}
	return f.Sync()
}

// headroom is what there must be on top before a disk that was full counts as well, so that it does not come and go.
const headroom = 256 << 10

// heal tries whether a sick file can be written again, with more than was wanted of it last.
func (s *Spool) heal() {
	s.mu.Lock()
	hopeless, wanted := s.sick == nil || s.isDamaged, s.wanted
	s.mu.Unlock()
	if hopeless {
		return
	}
	s.opened.RLock()
	lost := s.db == nil
	s.opened.RUnlock()
	var err error
	if lost {
		err = s.reopen()
	}
	if err == nil {
		err = s.probe(2*min(wanted, 4<<20) + headroom)
	}
	if err == nil {
		s.log.Info("spool can be written again")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.isDamaged {
		return
	}
	if s.sick = err; err == nil {
		s.makeRoom()
		signal(s.wake)
		signal(s.more)
	}
}

// probe writes so many bytes and deletes them again, which leaves their pages for what comes.
func (s *Spool) probe(size int) error {
	err := s.update(func(_ *Spool, tx *bolt.Tx) (state, error) {
		return s.same(), tx.Bucket(stateBucket).Put(probeKey, seal(probeKey, make([]byte, size)))
	})
	if err != nil {
		return errors.Join(err, s.reopen())
	}
	return s.update(func(_ *Spool, tx *bolt.Tx) (state, error) {
		return s.same(), tx.Bucket(stateBucket).Delete(probeKey)
	})
}

// Ready returns nil while the file can be written, else why not. A spool that is merely full is ready.
func (s *Spool) Ready() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sick != nil {
		return fmt.Errorf("spool %s cannot be written: %w", s.path, s.sick)
	}
	return nil
}
