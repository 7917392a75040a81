package client

import (
	"context"
	"errors"

	"github.com/sirupsen/logrus"
	"golang.org/x/sync/errgroup"

	"github.com/firstseen/firstseen/internal/chain"
	"github.com/firstseen/firstseen/internal/wire"
	"github.com/firstseen/firstseen/schema"
)

// finish makes entries of the blocks and gives them to the outbox in order. A block counts as finished from then on; the
// first one that the outbox does not take ends the step, and is read from the chain again in a later one.
func (f *follower) finish(ctx context.Context, n asker, head schema.Header, blocks []*chain.Block) error {
	for len(blocks) > 0 {
		part := blocks[:min(uint64(len(blocks)), f.portion())]
		blocks = blocks[len(part):]
		entries, err := f.prepare(ctx, n, head, part)
		if err != nil {
			return err
		}
		if err := f.deliver(part, entries); err != nil {
			return err
		}
	}
	return nil
}

// prepared is what became of one block: an entry, or why there can be none.
type prepared struct {
	entry
	poison  error
	unknown string // why it goes without receipts; empty: it has them
	rawless rawless
}

// prepare fetches receipts, renders and encodes, several blocks at a time.
func (f *follower) prepare(ctx context.Context, n asker, head schema.Header, blocks []*chain.Block) ([]prepared, error) {
	if f.o.Receipts != ReceiptsOff {
		n = receiptsAhead(ctx, n, blocks)
	}
	out := make([]prepared, len(blocks))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(fetchers)
	for i, b := range blocks {
		g.Go(func() (err error) {
			out[i], err = f.encode(ctx, n, head, b)
			return err
		})
	}
	return out, g.Wait()
}

func (f *follower) encode(ctx context.Context, n asker, head schema.Header, b *chain.Block) (prepared, error) {
	at := f.o.Now().UTC()
	unknown, err := fillReceipts(ctx, n, b, f.o.Receipts)
	if err != nil {
		return prepared{}, err
	}
	p := prepared{entry: entry{point: schema.Point{Number: b.Number, Hash: b.Hash}}, unknown: unknown}
	p.frame, p.poison = f.render(ctx, b)
	if p.poison != nil || f.o.Bare {
		return p, ctx.Err() // its end may be what rendering failed of
	}
	origin := schema.OriginBackfill
	if b.Hash == head.Hash {
		origin = schema.OriginHead
	}
	o := schema.Observation{Chain: b.Chain, Header: b.HeaderRLP, Hash: b.Hash,
		Node: n.Name(), ObservedAt: at, ContentType: f.o.Template.ContentType(), Origin: origin,
		Transactions: b.Transactions}
	if f.o.Raw {
		o.Raw, p.rawless = pack(n.Trust(), b)
	}
	payload := p.frame
	p.frame, p.poison = wire.AppendData(nil, o, payload)
	if broken := (*wire.Error)(nil); o.Raw != nil && errors.As(p.poison, &broken) && broken.Code == wire.CodeSize {
		o.Raw, p.rawless = nil, rawless{rawTooLarge, broken}
		p.frame, p.poison = wire.AppendData(nil, o, payload)
	}
	return p, nil
}

// render tries a few times: a template may have run into its deadline because the machine was busy.
func (f *follower) render(ctx context.Context, b *chain.Block) (payload []byte, err error) {
	for range 3 {
		payload, err = f.o.Template.Render(ctx, b.Block)
		if err == nil || ctx.Err() != nil {
			break
		}
	}
	return payload, err
}

// deliver hands blocks to the outbox. One that cannot be made into a frame becomes a gap that everyone is told of, since
// it would stop all the others for ever.
func (f *follower) deliver(blocks []*chain.Block, made []prepared) error {
	entries := make([]entry, len(made))
	for i, p := range made {
		entries[i] = p.entry
		if p.poison != nil {
			entries[i].frame = nil
			entries[i].gap = &schema.Gap{Chain: f.chain, From: p.point.Number, To: p.point.Number,
				Reason: "cannot be rendered or encoded"}
		}
	}
	taken, err := f.box.Append(entries)
	for i, b := range blocks[:taken] {
		f.finished(b, made[i], entries[i].gap)
	}
	return err
}

// finished notes a block that the outbox took.
func (f *follower) finished(b *chain.Block, p prepared, gap *schema.Gap) {
	if gap != nil {
		f.log.WithError(p.poison).WithFields(logrus.Fields{"number": b.Number, "hash": b.Hash}).Error(
			"block cannot be rendered or encoded: left out")
		f.board.gap(*gap)
	}
	f.withoutReceipts(b, p.unknown)
	f.withoutRaw(b, p.rawless)
	f.window.add(b.Hash)
	f.next = b.Number + 1
	f.hold = 0
	f.tally.finished(b.Number, gap != nil)
}

// withoutReceipts counts a block whose receipts are unknown, and logs when that begins, changes or ends.
func (f *follower) withoutReceipts(b *chain.Block, why string) {
	f.tally.receipts(why)
	if why == f.unknown || len(b.Transactions) == 0 {
		return
	}
	f.unknown = why
	log := f.log.WithField("number", b.Number)
	switch why {
	case "":
		log.Info("receipts are known again")
	case receiptsOff:
		log.Info("receipts are not asked for: blocks go without gas used, status and contracts")
	default:
		log.WithField("reason", why).Warn("receipts are unknown: blocks go without gas used, status and contracts")
	}
}
