// Package broker passes on hints that a feed was shipped further, so that replicas need not wait for their next look. A
// hint is never trusted and never needed: it is only a reason to look now.
package broker

import (
	"context"
	"errors"
	"fmt"

	"github.com/firstseen/firstseen/schema"
)

// Pointer is a hint: rows First to Last of the feed are in the object of that key.
type Pointer struct {
	First uint64 `json:"first"`
	Last  uint64 `json:"last"`
	Epoch uint64 `json:"epoch"` // fencing number of the writer
	Key   string `json:"key"`
}

// Broker passes hints from the writer of a feed to its replicas.
type Broker interface {
	// Tell passes p on in its own time and returns at once. Nobody learns whether it arrived; while hints cannot be
	// delivered, a later one takes the place of an earlier one.
	Tell(ctx context.Context, p Pointer)
	// Listen calls hear for every hint that comes, one at a time, until ctx ends, which is when it returns nil. Hints
	// may be missing, come twice, late, or out of order. hear must not block for long.
	Listen(ctx context.Context, hear func(Pointer)) error
	// Close gives what was told last a moment to arrive, and releases what the broker holds.
	Close() error
	// String names the broker, without secrets.
	String() string
}

// None is the broker of who has none: nobody is told, nobody hears.
type None struct{}

// Tell does nothing.
func (None) Tell(context.Context, Pointer) {}

// Listen waits for ctx to end.
func (None) Listen(ctx context.Context, _ func(Pointer)) error {
	<-ctx.Done()
	return nil
}

// Close does nothing.
func (None) Close() error { return nil }

func (None) String() string { return "none" }

// Topic is the Kafka topic of a feed. It fails if env or role is no name.
func Topic(env, role string) (string, error) {
	if !schema.ValidName(env) || !schema.ValidName(role) {
		return "", fmt.Errorf("topic of env %q and role %q: %w", env, role, errName)
	}
	return env + "-" + role + "-feed", nil
}

var errName = errors.New("use 1 to 64 of the characters A-Z a-z 0-9 . _ -")
