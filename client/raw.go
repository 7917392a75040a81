package client

import (
	"errors"

	"github.com/firstseen/firstseen/internal/chain"
)

// Why a block goes without raw JSON, or with less of it; the label of a counter.
const (
	rawUnverified = "unverified"  // the node's answers are not what a server would verify
	rawTooLarge   = "too_large"   // for a frame
	rawReceipts   = "no_receipts" // the block's JSON goes, that of its receipts does not
)

// pack makes the raw part of a block, nil if there is to be none. It is verified as the server does, because a block that
// a server refuses for its raw part is lost. What the node answered is let go of.
func (f *follower) pack(t chain.Trust, b *chain.Block) (raw []byte, less string) {
	kept := b.Raw
	b.Raw.Block, b.Raw.Receipts = nil, nil
	err := t.VerifyRaw(b.Hash, kept)
	if errors.Is(err, chain.ErrReceipts) {
		f.log.WithError(err).WithField("number", b.Number).Debug("receipts are not sent as raw JSON")
		kept.Receipts = nil
		err = t.VerifyRaw(b.Hash, kept)
	}
	if err != nil {
		f.log.WithError(err).WithField("number", b.Number).Debug("block is not sent as raw JSON")
		return nil, rawUnverified
	}
	if kept.Receipts == nil {
		less = rawReceipts
	}
	raw, err = chain.PackRaw(kept)
	if err != nil {
		return nil, rawTooLarge
	}
	return raw, less
}

// withoutRaw counts a block that goes without raw JSON, or with less of it, and logs when that begins, changes or ends.
func (f *follower) withoutRaw(b *chain.Block, why string) {
	f.tally.raw(why)
	if why == f.rawless {
		return
	}
	f.rawless = why
	log := f.log.WithField("number", b.Number)
	switch why {
	case "":
		log.Info("raw JSON is complete again")
	case rawReceipts:
		log.Warn("raw JSON goes without receipts, which could not be had or are not the block's")
	default:
		log.WithField("reason", why).Warn("raw JSON is left off")
	}
}
