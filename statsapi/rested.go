package statsapi

import (
	"context"
	"time"
)

const (
	// restFactor is for how many times as long as it took to make an answer is given again: making it again and again
	// takes a tenth of one database connection at most.
	restFactor = 10
	// restedKept bounds the answers at hand; when there are as many, all are forgotten.
	restedKept = 64
)

// rested gives answers that are costly to make again for a while. Who asks while one is made waits for it.
type rested[T any] struct {
	turn chan struct{} // one slot: whoever holds it may touch the map; waiting for it can be given up
	kept map[string]restedAnswer[T]
}

type restedAnswer[T any] struct {
	value T
	until time.Time
}

func newRested[T any]() *rested[T] {
	return &rested[T]{turn: make(chan struct{}, 1), kept: map[string]restedAnswer[T]{}}
}

// get answers the question of that name. The answer is shared and must not be changed.
func (r *rested[T]) get(ctx context.Context, name string, answer func(context.Context) (T, error)) (T, error) {
	var none T
	select {
	case r.turn <- struct{}{}:
		defer func() { <-r.turn }()
	case <-ctx.Done():
		return none, ctx.Err()
	}
	if a, ok := r.kept[name]; ok && time.Now().Before(a.until) {
		return a.value, nil
	}
	start := time.Now()
	value, err := answer(ctx)
	if err != nil {
		return none, err
	}
	if len(r.kept) >= restedKept {
		clear(r.kept)
	}
	r.kept[name] = restedAnswer[T]{value, time.Now().Add(restFactor * time.Since(start))}
	return value, nil
}
