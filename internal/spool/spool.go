package spool

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
	bolt "go.etcd.io/bbolt"

	"github.com/firstseen/firstseen/internal/quiet"
	"github.com/firstseen/firstseen/schema"
)

// Errors of Open and Append to decide on.
var (
	ErrFull   = errors.New("spool is full")
	ErrInUse  = errors.New("in use by another process")
	ErrClosed = errors.New("spool is closed")

	// ErrDamaged is of Inspect: Open puts such a file aside.
	ErrDamaged = errors.New("file is damaged")
)

// Window is how many of the blocks finished last are remembered.
const Window = 512

// Options configure a Spool. A zero field has the default that its comment names.
type Options struct {
	Kind       string // what the frames are, such as "relay"; a spool in which others wait is refused
	MaxBytes   int64  // of frames waiting, 1 GiB; the file takes at most twice that and 64 MiB
	MaxEntries int    // 100,000

	Retry time.Duration      // between attempts to write after one failed, 1 s
	Log   logrus.FieldLogger // nil: discarded
	Now   func() time.Time   // wall clock of records, time.Now
}

func (o Options) withDefaults() Options {
	if o.MaxBytes == 0 {
		o.MaxBytes = 1 << 30
	}
	if o.MaxEntries == 0 {
		o.MaxEntries = 100_000
	}
	if o.Retry == 0 {
		o.Retry = time.Second
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	o.Log = quiet.Log(o.Log)
	return o
}

// Block is one block that the observer is done with: what is to be delivered of it, or why nothing is.
type Block struct {
	Point schema.Point
	Frame []byte      // nil: nothing to deliver
	Gap   *schema.Gap // then, what to tell of it
}

// Entry is a frame that waits to be delivered.
type Entry struct {
	Seq   uint64 // from 1, rising, without gaps unless some were removed by hand
	Point schema.Point
	Frame []byte
	Size  int       // of Frame, which may be left out
	Since time.Time // when it was appended; by After, when this process had it first, monotonic
}

// Letter is an entry that no server will take, as kept for the operator.
type Letter struct {
	Entry
	Reason string
	At     time.Time
}

// Start is where the observer began.
type Start struct {
	Floor uint64        `json:"floor"`           // heights below are not its to deliver
	Known *schema.Point `json:"known,omitempty"` // stored by others: the first to deliver comes after it
}

// Progress is how far the observer got.
type Progress struct {
	Chain    uint64 // 0: it never began, and nothing else here is set
	Start    Start
	Finished []schema.Point // the last Window of them, oldest first
	Gaps     []schema.Gap   // heights left out
	Halted   *schema.Gap    // why it stopped for good; nil: it did not
}

// Spool is an open spool. All methods may be called at once by several goroutines.
type Spool struct {
	path string
	o    Options
	log  logrus.FieldLogger
	lock *os.File // held until Close

	more, room chan struct{}
	wake       chan struct{} // there is something to write
	damaged    chan struct{} // closed once
	quit, done chan struct{}
	closing    sync.Once
	closeErr   error

	opened sync.RWMutex // guards db against being replaced while it is read
	db     *bolt.DB     // nil while the file cannot be opened

	mu        sync.Mutex // guards the rest
	closed    bool
	queue     []*request // Appends that wait; as many as there are callers
	waiting   []place    // entries on disk that are neither acked nor failed, oldest first
	bytes     int64      // of their frames
	last      uint64     // number of the newest entry ever
	acked     uint64     // entries up to here are settled
	fails     []failure  // of these, the failed ones not yet written as letters; no more than there were entries
	cleaned   uint64     // settled entries up to here are deleted
	nth       uint64     // blocks ever finished
	state     state
	progress  Progress // when it was opened, without Chain and Start, which are in state
	dead      []Letter // without frames
	refused   bool     // an Append, and Room was not signalled since
	sick      error    // why nothing can be written at present
	isDamaged bool     // and never again
	wanted    int      // bytes that could not be written
	counts    Counts
}

// place is what is known of an entry without reading it.
type place struct {
	seq   uint64
	size  int
	since time.Time
}

// Open opens the spool at path, or makes it. A damaged file is renamed to path.corrupt, in place of an earlier one, with
// an error in the log, and an empty spool begins. The error is ErrInUse when another process has the spool.
func Open(path string, o Options) (*Spool, error) {
	s := &Spool{path: path, o: o.withDefaults(), more: make(chan struct{}, 1), room: make(chan struct{}, 1),
		wake: make(chan struct{}, 1), damaged: make(chan struct{}), quit: make(chan struct{}), done: make(chan struct{})}
	s.log = s.o.Log.WithField("spool", path)
	err := s.open()
	if err != nil {
		_ = s.release() // the error that kept it from opening is the one to tell
		return nil, fmt.Errorf("spool %s: %w", path, err)
	}
	go s.run()
	if len(s.waiting) > 0 {
		signal(s.more)
	}
	return s, nil
}

func (s *Spool) open() (err error) {
	if s.lock, err = lock(s.path); err != nil {
		return err
	}
	err = verify(s.path)
	if err == nil {
		s.db, err = openFile(s.path, true)
	}
	if errors.Is(err, ErrDamaged) {
		if err = s.setAside(err); err == nil {
			s.db, err = openFile(s.path, true)
		}
	}
	if err != nil {
		return err
	}
	if err := s.prepare(); err != nil {
		return err
	}
	if err := s.load(); err != nil {
		return err
	}
	return s.adopt()
}

// adopt makes sure that frames of one kind wait in the spool.
func (s *Spool) adopt() error {
	if s.state.Kind == s.o.Kind || s.o.Kind == "" {
		return nil
	}
	if n := len(s.waiting); n > 0 && s.state.Kind != "" {
		return fmt.Errorf("%d blocks wait in it as %s frames, not %s: deliver them first, or use another file",
			n, s.state.Kind, s.o.Kind)
	}
	s.state.Kind = s.o.Kind
	return s.update(func(*Spool, *bolt.Tx) (state, error) { return s.state, nil })
}

// setAside makes place for a new file, and says why.
func (s *Spool) setAside(why error) error {
	aside := s.path + ".corrupt"
	if err := os.Rename(s.path, aside); err != nil {
		return fmt.Errorf("put the damaged file aside: %w", err)
	}
	s.counts.SetAside = true
	s.log.WithError(why).WithField("kept", aside).Error("spool is damaged: put aside and begun anew. " +
		"The chain is read again from where the server's blocks end, or from --start where a server names none")
	return nil
}

// Close writes what was settled last and gives the spool up. It waits for an Append that is under way.
func (s *Spool) Close() error {
	s.closing.Do(func() {
		s.mu.Lock()
		s.closed = true
		s.mu.Unlock()
		close(s.quit)
		<-s.done
		s.closeErr = s.release()
	})
	return s.closeErr
}

func (s *Spool) release() error {
	s.opened.Lock()
	defer s.opened.Unlock()
	var err error
	if s.db != nil {
		err = s.db.Close()
		s.db = nil
	}
	if s.lock != nil {
		err = errors.Join(err, s.lock.Close())
	}
	return err
}

// signal leaves one signal in c, if none is waiting there.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
