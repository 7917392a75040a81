package objects

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
)

// probes is the folder of the objects that Prove makes for a moment.
const probes = "firstseen-probe/"

// Prove tests that a store keeps the promises that a writer relies on: of two objects created at once under a name one
// wins, and a replacement by somebody who has missed the last one is refused. It fails with ErrUnconditional if not,
// and removes what it created.
func Prove(ctx context.Context, s Store) (err error) {
	key := probes + rand.Text()
	defer func() {
		// The probe goes even if ctx has ended meanwhile; the call's own time-out bounds that.
		if gone := s.Delete(context.WithoutCancel(ctx), key); gone != nil && err == nil {
			err = fmt.Errorf("remove probe: %w", gone)
		}
	}()
	if err := proveCreate(ctx, s, key); err != nil {
		return err
	}
	return proveReplace(ctx, s, key)
}

func proveCreate(ctx context.Context, s Store, key string) error {
	var wait sync.WaitGroup
	errs := make([]error, 2)
	for i := range errs {
		wait.Go(func() { errs[i] = s.Create(ctx, key, fmt.Append(nil, "probe ", i)) })
	}
	wait.Wait()
	winners := 0
	for _, err := range errs {
		if err == nil {
			winners++
		} else if !errors.Is(err, ErrExists) {
			return err
		}
	}
	if winners != 1 {
		return fmt.Errorf("%s: %w: of 2 objects created under one name %d succeeded", s, ErrUnconditional, winners)
	}
	return nil
}

func proveReplace(ctx context.Context, s Store, key string) error {
	_, stale, err := s.Get(ctx, key)
	if err != nil {
		return err
	}
	want := []byte("probe replaced")
	tag, err := s.Replace(ctx, key, want, stale)
	if err != nil {
		return err
	}
	_, err = s.Replace(ctx, key, []byte("probe overwritten"), stale)
	if err == nil {
		return fmt.Errorf("%s: %w: an object was replaced by who had not seen the last change", s, ErrUnconditional)
	}
	if !errors.Is(err, ErrConflict) {
		return err
	}
	body, now, err := s.Get(ctx, key)
	if err != nil {
		return err
	}
	if !bytes.Equal(body, want) || now != tag {
		return fmt.Errorf("%s: %w: what was written is not what is read", s, ErrUnconditional)
	}
	return nil
}
