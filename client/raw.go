package client

import (
	"errors"

	"github.com/firstseen/firstseen/internal/chain"
	"github.com/firstseen/firstseen/schema"
)

// Why a block goes without raw JSON, or with less of it; the label of a counter.
const (
	rawUnverified = "unverified"  // the node's answers are not what a server would verify
	rawTooLarge   = "too_large"   // for a frame
	rawReceipts   = "no_receipts" // the block's JSON goes, that of its receipts does not
)

// rawless is why a block goes without raw JSON, or with less of it; no reason: with all, or none is wanted.
type rawless struct {
	reason string
	err    error // what was wrong, if something was
}

// pack makes the raw part of a block, nil if there is to be none. It is verified as the server does, because a block that
// a server refuses for its raw part is lost. What the node answered is let go of.
func pack(t chain.Trust, b *chain.Block) (raw []byte, less rawless) {
	kept := b.Raw
	b.Raw = schema.RawBlock{}
	err := t.VerifyRaw(b.Hash, kept)
	if errors.Is(err, chain.ErrReceipts) {
		less.err = err
		kept.Receipts = nil
		err = t.VerifyRaw(b.Hash, kept)
	}
	if err != nil {
		return nil, rawless{rawUnverified, err}
	}
	if kept.Receipts == nil {
		less.reason = rawReceipts
	}
	raw, err = chain.PackRaw(kept)
	if err != nil {
		return nil, rawless{rawTooLarge, err}
	}
	return raw, less
}

// withoutRaw counts a block that goes without raw JSON, or with less of it, and logs when that begins, changes or ends.
func (f *follower) withoutRaw(b *chain.Block, why rawless) {
	f.tally.raw(why.reason)
	if why.reason == f.rawless {
		return
	}
	f.rawless = why.reason
	log := f.log.WithField("number", b.Number)
	if why.err != nil {
		log = log.WithError(why.err)
	}
	switch why.reason {
	case "":
		log.Info("raw JSON is complete again")
	case rawReceipts:
		log.Warn("raw JSON goes without receipts, which could not be had or are not the block's")
	default:
		log.WithField("reason", why.reason).Warn("raw JSON is left off")
	}
}
