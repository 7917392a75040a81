package server

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"runtime"
	"slices"

	"github.com/firstseen/firstseen/internal/chain"
	"github.com/firstseen/firstseen/internal/wire"
	"github.com/firstseen/firstseen/schema"
)

// caps are those of the client's that this server speaks too.
func (r *relay) caps() []string {
	if r.takesRaw() {
		return []string{wire.CapRaw}
	}
	return nil
}

func (r *relay) takesRaw() bool { return slices.Contains(r.hello.Caps, wire.CapRaw) }

// checkRaw proves that the raw part, if there is one, is the block's.
func (r *relay) checkRaw(o *schema.Observation) error {
	if o.Raw == nil {
		return nil
	}
	known, err := r.srv.raws.verify(reading{r.in.halted()}, chain.Trust(r.excepted(o.Chain)), o)
	result := "verified"
	switch {
	case err != nil:
		result = "refused"
	case known:
		result = "known"
	}
	r.srv.metrics.raws.WithLabelValues(result).Inc()
	return err
}

// raws verifies raw parts. Few at a time, so that half of the cores stay free for everybody else: one made up to be slow
// takes a second or two, and some hundred MB, whoever sent it. What passed is remembered, because observers with the same
// kind of node send the same bytes, and so does one that resends.
type raws struct {
	places chan struct{} // one is held while verifying; whoever finds none waits, and its connection is not read
	known  recent[[sha256.Size]byte, struct{}]
}

func newRaws() *raws { return &raws{places: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2))} }

// verify tells why a raw part must not be stored: an error of ctx, or a *wire.Error. known is true if it was verified
// before.
func (r *raws) verify(ctx context.Context, t chain.Trust, o *schema.Observation) (known bool, err error) {
	id := rawID(o)
	if _, ok := r.known.find(id); ok {
		return true, nil
	}
	select {
	case r.places <- struct{}{}:
		defer func() { <-r.places }()
	case <-ctx.Done():
		return false, ctx.Err()
	}
	b, err := chain.UnpackRaw(o.Raw)
	if err == nil {
		err = t.VerifyRaw(o.Hash, b)
	}
	if err != nil {
		return false, &wire.Error{Code: wire.CodeRaw, Text: err.Error()}
	}
	r.known.add(id, struct{}{})
	return false, nil
}

// rawID names a raw part and the block that it was found to belong to.
func rawID(o *schema.Observation) (id [sha256.Size]byte) {
	h := sha256.New()
	_, _ = h.Write(binary.BigEndian.AppendUint64(nil, o.Chain)) // hashes never fail
	_, _ = h.Write(o.Hash[:])
	_, _ = h.Write(o.Raw)
	h.Sum(id[:0])
	return id
}
