package client

import (
	"errors"
	"fmt"

	"github.com/firstseen/firstseen/internal/spool"
	"github.com/firstseen/firstseen/schema"
)

// What frames in a spool are. The content for one kind of server is of no use to the other.
const (
	spoolRelay = "relay"
	spoolBare  = "bare"
)

// newBox opens what Options.Spool names, or makes an outbox in memory.
func newBox(o Options) (box, error) {
	if o.Spool == "" {
		return newMemoryBox(o), nil
	}
	kind := spoolRelay
	if o.Bare {
		kind = spoolBare
	}
	s, err := spool.Open(o.Spool, spool.Options{Kind: kind, MaxBytes: o.OutboxBytes, MaxEntries: o.OutboxEntries,
		Log: o.Log, Now: o.Now})
	if err != nil {
		return nil, err
	}
	return spoolBox{s}, nil
}

// spoolBox is a box on disk.
type spoolBox struct{ *spool.Spool }

// Begun implements box.
func (b spoolBox) Begun() (begun, bool) {
	p := b.Progress()
	return begun{chain: p.Chain, floor: p.Start.Floor, known: p.Start.Known, finished: p.Finished, gaps: p.Gaps,
			halted: p.Halted},
		p.Chain != 0
}

// Begin implements inbox.
func (b spoolBox) Begin(at begun) error {
	return orFull(b.Spool.Begin(at.chain, spool.Start{Floor: at.floor, Known: at.known}, at.finished, at.gaps...))
}

// Halt implements inbox.
func (b spoolBox) Halt(g schema.Gap) error { return orFull(b.Spool.Halt(g)) }

// Append implements inbox.
func (b spoolBox) Append(entries []entry) (taken int, err error) {
	blocks := make([]spool.Block, len(entries))
	for i, e := range entries {
		blocks[i] = spool.Block{Point: e.point, Frame: e.frame, Gap: e.gap}
	}
	taken, err = b.Spool.Append(blocks)
	return taken, orFull(err)
}

// orFull makes errors of the spool errFull, so that they are not taken for a node's.
func orFull(err error) error {
	if errors.Is(err, spool.ErrFull) || errors.Is(err, spool.ErrClosed) {
		return fmt.Errorf("%w: %w", errFull, err)
	}
	return err
}

// After implements outbox.
func (b spoolBox) After(seq uint64) (entry, bool) {
	e, ok := b.Spool.After(seq)
	return entry{seq: e.Seq, point: e.Point, frame: e.Frame, since: e.Since}, ok
}

// Letters implements box.
func (b spoolBox) Letters() []Letter {
	var out []Letter
	for _, l := range b.Spool.Letters() {
		out = append(out, Letter{Block: l.Point, Reason: l.Reason, At: l.At})
	}
	return out
}
