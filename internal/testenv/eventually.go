package testenv

import (
	"testing"
	"time"
)

// Patience is how long Eventually tries: far longer than anything takes on a busy machine, so that only what never
// happens fails.
const Patience = time.Minute

// Eventually tries until there is no error, and fails the test with the last one when Patience is up.
func Eventually(t testing.TB, try func() error) {
	t.Helper()
	deadline := time.NewTimer(Patience)
	defer deadline.Stop()
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for {
		err := try()
		if err == nil {
			return
		}
		select {
		case <-deadline.C:
			t.Fatalf("not within %s: %v", Patience, err)
		case <-again.C:
		}
	}
}
