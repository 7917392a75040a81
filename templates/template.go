package templates

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/firstseen/firstseen/schema"
)

const (
	maxOutput = 1 << 20
	timeout   = 2 * time.Second
)

var (
	// ErrTooLong means that a template's output passed 1 MiB.
	ErrTooLong = errors.New("output exceeds the limit")
	// ErrDeadline means that a template did not end within 2 s.
	ErrDeadline = errors.New("rendering exceeds the deadline")

	errEmpty = errors.New("output is empty") // no server takes an empty frame
)

// Template renders blocks. It is safe for concurrent use; renderings of one template take turns.
type Template struct {
	name        string
	contentType string
	json        bool
	maxOutput   int
	timeout     time.Duration
	engine      interface{ Execute(io.Writer, any) error }

	mu      sync.Mutex   // one rendering at a time: the engine's step function knows of no other
	stopped func() error // guarded by mu: why the rendering under way has to end, if it has
}

// ContentType returns the media type of what the template renders.
func (t *Template) ContentType() string { return t.contentType }

// Render returns the block's payload, or ErrTooLong, ErrDeadline, ctx's error, or the template's own failure. It leaves
// nothing running: a template that does not end is stopped from inside.
func (t *Template) Render(ctx context.Context, b schema.Block) ([]byte, error) {
	out, err := t.render(ctx, &b)
	if err != nil {
		return nil, fmt.Errorf("render block %d of chain %d by %s: %w", b.Number, b.Chain, t.name, err)
	}
	return out, nil
}

func (t *Template) render(ctx context.Context, b *schema.Block) ([]byte, error) {
	data, err := newView(b)
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	ctx, cancel := context.WithTimeoutCause(ctx, t.timeout, ErrDeadline)
	defer cancel()
	t.stopped = func() error {
		if ctx.Err() == nil {
			return nil
		}
		return context.Cause(ctx)
	}
	out := capped{limit: t.maxOutput}
	if err := t.engine.Execute(&out, data); err != nil {
		// A template's own message about these would only name an action that its author never wrote.
		if stopped := t.stopped(); stopped != nil {
			return nil, stopped
		}
		return nil, err
	}
	if len(out.text) == 0 {
		return nil, errEmpty
	}
	if t.json && !json.Valid(out.text) {
		return nil, errors.New("output is not valid JSON")
	}
	return out.text, nil
}

// step is called by the engine wherever a template may repeat itself; its error ends the rendering.
func (t *Template) step() (string, error) { return "", t.stopped() }

// capped collects output up to a limit.
type capped struct {
	text  []byte
	limit int
}

func (c *capped) Write(p []byte) (int, error) {
	if len(p) > c.limit-len(c.text) {
		return 0, ErrTooLong
	}
	c.text = append(c.text, p...)
	return len(p), nil
}

// rehearse renders a made-up block.
func (t *Template) rehearse() error {
	to := schema.Address{2}
	_, err := t.Render(context.Background(), schema.Block{
		Chain:   1,
		Header:  schema.Header{Hash: schema.Hash{1}, Number: 1, Time: time.Unix(1, 0)},
		BaseFee: "1",
		Transactions: []schema.Transaction{
			{Hash: schema.Hash{3}, To: &to, Value: "1"},
			{Hash: schema.Hash{4}, Index: 1, Value: "0"},
		},
	})
	return err
}
