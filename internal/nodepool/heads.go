package nodepool

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/firstseen/firstseen/schema"
)

// maxResubscribe is at most between attempts to subscribe to a node's heads.
const maxResubscribe = 30 * time.Second

// subscribe passes on the heads that a node announces over WebSocket (eth_subscribe, newHeads) until ctx ends. While
// there is no subscription, polling goes on as for any other node, so failures are told at debug level only.
func (p *Pool) subscribe(ctx context.Context, n *Node, heads chan<- schema.Header) {
	wait := p.o.Poll
	for ctx.Err() == nil {
		began := time.Now()
		err := p.listen(ctx, n, heads)
		if ctx.Err() != nil {
			return
		}
		if errors.Is(err, errWrongChain) || isForged(err) {
			p.missed(n, err)
		}
		if time.Since(began) > maxResubscribe {
			wait = p.o.Poll
		}
		p.log.WithField("node", n.name).WithField("reason", reason(err)).Debug("no subscription to heads: polling")
		if !sleep(ctx, p.jitter(wait)) {
			return
		}
		wait = min(2*wait, max(maxResubscribe, p.o.Poll))
	}
}

// listen subscribes on a connection of its own, whose chain id is read first, and returns when that ends.
func (p *Pool) listen(ctx context.Context, n *Node, heads chan<- schema.Header) error {
	dialCtx, cancel := context.WithTimeout(ctx, quickCall)
	defer cancel()
	client, err := n.dial(dialCtx, n.ws)
	if err != nil {
		return err
	}
	defer client.Close()
	id, err := n.chainID(ctx, client)
	if err != nil {
		return err
	}
	// A survey may not have decided yet; polling will tell then.
	if p.Chain() != 0 {
		if err := p.compare(n, id); err != nil {
			return err
		}
	}
	raw := make(chan json.RawMessage)
	sub, err := client.EthSubscribe(ctx, raw, "newHeads")
	if err != nil {
		return n.wrap("eth_subscribe", err)
	}
	defer sub.Unsubscribe()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-sub.Err():
			if err == nil {
				err = errNotConnected
			}
			return n.wrap("eth_subscribe", err)
		case text := <-raw:
			h, err := n.Trust().DecodeHead(text)
			if err != nil {
				return BadAnswer(n.name, "eth_subscribe", err)
			}
			select {
			case heads <- h: // a prober that is busy is waited for; the connection buffers meanwhile
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
}

// take judges an announced head as a probe would. A node that is not trusted at present has to be probed first.
func (p *Pool) take(ctx context.Context, n *Node, h schema.Header) {
	p.mu.Lock()
	trusted := votes(n.state)
	p.mu.Unlock()
	if !trusted {
		return
	}
	limited, cancel := context.WithTimeout(ctx, quickCall)
	defer cancel()
	linked, err := p.link(limited, n, h)
	switch {
	case ctx.Err() != nil:
	case isForged(err):
		p.missed(n, err)
	case err == nil:
		p.heard(n, h, linked)
		p.confirm(limited, n)
	}
}
