package server

import (
	"github.com/firstseen/firstseen/internal/wire"
	"github.com/firstseen/firstseen/netstring"
	"github.com/firstseen/firstseen/schema"
)

// ledger keeps account of one connection's data frames, counted from 1: which are outstanding, how they were settled,
// and what of that the client has been told. Settlements come in any order; what is told is a growing prefix. It is not
// safe for concurrent use.
type ledger struct {
	mark  uint64  // frames up to here have been told
	open  []entry // frames mark+1, mark+2, …; open[:head] is free again. At most wire.WindowFrames are in use
	head  int
	bytes int // content of the open frames
	due   int // open frames that are not settled
}

// entry is one open frame. Its refusal is set when outcome is Refused.
type entry struct {
	refusal *wire.Refusal
	size    int32
	settled bool
	outcome schema.Outcome
}

// keepEntries is how many entries' room an idle ledger keeps.
const keepEntries = 64

// outstanding returns how many frames have not been told.
func (l *ledger) outstanding() int { return len(l.open) - l.head }

// admits tells whether the window has room for one more frame of size bytes. One frame is always allowed.
func (l *ledger) admits(size int) bool {
	return l.outstanding() == 0 || l.outstanding() < wire.WindowFrames && l.bytes+size <= wire.WindowBytes
}

// add opens the next frame and returns its number.
func (l *ledger) add(size int) uint64 {
	if l.head > 0 && len(l.open) == cap(l.open) {
		n := copy(l.open, l.open[l.head:])
		clear(l.open[n:])
		l.open, l.head = l.open[:n], 0
	}
	l.open = append(l.open, entry{size: int32(size)})
	l.bytes += size
	l.due++
	return l.mark + uint64(l.outstanding())
}

// settle notes how frame n, which is open, ended: as First, Duplicate or, with a refusal, Refused.
func (l *ledger) settle(n uint64, outcome schema.Outcome, refusal *wire.Refusal) {
	e := &l.open[l.head+int(n-l.mark)-1]
	e.settled, e.outcome, e.refusal = true, outcome, refusal
	l.due--
}

// take appends the A and N frames that tell the settled prefix, and moves the mark behind it. Scratch is used to build
// contents; it is returned for the next call.
func (l *ledger) take(dst, scratch []byte) (frames, room []byte) {
	flags := scratch[:0]
	for ; l.head < len(l.open) && l.open[l.head].settled; l.head++ {
		e := &l.open[l.head]
		if e.outcome == schema.Refused {
			dst = l.tell(dst, flags)
			dst = netstring.Append(dst, wire.AppendRefusal(nil, *e.refusal))
			flags = flags[:0]
		} else {
			flags = append(flags, flagOf(e.outcome))
		}
		l.mark++
		l.bytes -= int(e.size)
		*e = entry{}
	}
	dst = l.tell(dst, flags)
	l.shrink()
	return dst, flags
}

// tell appends an ack of everything up to the mark, unless there is nothing new.
func (l *ledger) tell(dst, flags []byte) []byte {
	if len(flags) == 0 {
		return dst
	}
	return netstring.Append(dst, wire.AppendAck(make([]byte, 0, len(flags)+24), l.mark, flags))
}

// shrink gives the room of a burst back once everything has been told.
func (l *ledger) shrink() {
	if l.outstanding() > 0 {
		return
	}
	l.open, l.head = l.open[:0], 0
	if cap(l.open) > keepEntries {
		l.open = nil
	}
}

// rest gives back all room if nothing is outstanding.
func (l *ledger) rest() {
	if l.outstanding() == 0 {
		l.open, l.head = nil, 0
	}
}

func flagOf(o schema.Outcome) byte {
	if o == schema.First {
		return wire.FlagFirst
	}
	return wire.FlagDuplicate
}
