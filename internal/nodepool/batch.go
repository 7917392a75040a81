package nodepool

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/ethereum/go-ethereum/rpc"
)

// unbatched is for how long a node that does not take batches is asked one thing at a time.
const unbatched = 10 * time.Minute

// AskAll asks one method several times, in one request if the node takes that and one after the other otherwise, within
// Options.CallTimeout for each request. There is an answer or an error for each of args, as Ask has them. A few dozen
// are what most nodes take.
func (n *Node) AskAll(ctx context.Context, method string, args [][]any) ([]json.RawMessage, []error) {
	answers, errs := n.askTogether(ctx, method, args)
	for i := range args {
		if answers[i] == nil && errs[i] == nil {
			answers[i], errs[i] = n.Ask(ctx, method, args[i]...)
		}
	}
	return answers, errs
}

// askTogether leaves neither answer nor error where the node is to be asked again by itself.
func (c *conn) askTogether(ctx context.Context, method string, args [][]any) ([]json.RawMessage, []error) {
	answers, errs := make([]json.RawMessage, len(args)), make([]error, len(args))
	c.mu.Lock()
	client, single := c.rpc, time.Now().Before(c.single)
	c.mu.Unlock()
	if client == nil || single || len(args) < 2 {
		return answers, errs
	}
	batch := make([]rpc.BatchElem, len(args))
	for i := range batch {
		batch[i] = rpc.BatchElem{Method: method, Args: args[i], Result: &answers[i]}
	}
	limited, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	err := client.BatchCallContext(limited, batch)
	var good int
	for i := range batch {
		if err != nil || batch[i].Error != nil { // for this one, or of batches: asking again tells
			answers[i] = nil
		} else {
			good++
		}
	}
	if good == 0 {
		c.separately()
	}
	if err != nil && final(limited, err) {
		for i := range errs {
			errs[i] = c.wrap(method, err)
		}
	}
	return answers, errs
}

// final tells whether a batch that failed says something of the node, rather than of batches.
func final(ctx context.Context, err error) bool {
	var status *statusError
	return ctx.Err() != nil || errors.As(err, &status) && (status.code >= 500 || status.code == 429 || status.retryAfter > 0)
}

// separately has the node asked one thing at a time for a while.
func (c *conn) separately() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.single = time.Now().Add(unbatched)
}
