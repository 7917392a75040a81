package feed

import (
	"sync"
	"sync/atomic"

	"github.com/firstseen/firstseen/schema"
)

// Effect is what an event does to a chain's branch.
type Effect string

// The effects of an event. A reader that does only as they say always holds the branch.
const (
	NoEffect Effect = ""
	Apply    Effect = "apply" // the block is on the branch now, and was not before
	Undo     Effect = "undo"  // the block was on the branch, and is not any more
)

// KindMissing is the kind of an event that stands for rows of the feed which can no longer be read. It is no row itself.
const KindMissing schema.FeedKind = "missing"

// Missing is what a reader will not get. To is 0 where nobody knows how much it is.
type Missing struct {
	From, To uint64 // seqs, both included
	Reason   string
}

// Event is one row of the feed, shared by all who read it: it must not be changed. For KindMissing, Missing is set and
// Seq is where reading goes on after.
type Event struct {
	schema.FeedEntry
	Epoch   string
	Effect  Effect
	Head    bool // the block became its chain's head; told of live events only
	Missing *Missing

	addresses []schema.Address // those that the block's transactions name
	addressed bool             // addresses are known

	forms [forms]form
}

// form is one encoding.
type form struct {
	made atomic.Pointer[[]byte]
	mu   sync.Mutex // held while it is made, which may take another form of the same event
}

// forms is how many encodings an event can carry.
const forms = 6

func newEvent(epoch string, row schema.FeedEntry) *Event {
	return &Event{FeedEntry: row, Epoch: epoch, Effect: effect(row.FeedEvent)}
}

// missing is an event after which reading goes on behind the cursor.
func missing(at Cursor, m Missing) *Event {
	e := &Event{Epoch: at.Epoch, Missing: &m}
	e.Kind, e.Seq = KindMissing, at.Seq
	return e
}

func effect(e schema.FeedEvent) Effect {
	if e.Kind != schema.FeedBlock && e.Kind != schema.FeedStatus {
		return NoEffect
	}
	switch was, is := e.Was.OnBranch(), e.Status.OnBranch(); {
	case is && !was:
		return Apply
	case was && !is:
		return Undo
	default:
		return NoEffect
	}
}

// Cursor is the place right behind the event.
func (e *Event) Cursor() Cursor { return Cursor{Epoch: e.Epoch, Seq: e.Seq} }

// Form returns an encoding of the event, which is made by the first who asks for it and shared by all who do later. The
// number, below 6, is the caller's own name for what encode makes. Readers must not change the result. An error is not
// kept: the next one tries again.
func (e *Event) Form(number int, encode func(*Event) ([]byte, error)) ([]byte, error) {
	f := &e.forms[number]
	if made := f.made.Load(); made != nil {
		return *made, nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if made := f.made.Load(); made != nil {
		return *made, nil
	}
	text, err := encode(e)
	if err != nil {
		return nil, err
	}
	f.made.Store(&text)
	return text, nil
}
