// Package faults wraps connections, listeners, readers, writers and HTTP transports so that tests can break them on
// purpose and see that it happened. Production code never imports it.
//
// Every fault counts how often it fired: a test that injects one asserts Fired, else it may pass because nothing broke.
package faults

import (
	"errors"
	"io"
	"sync/atomic"
)

// ErrInjected is the error that injected faults return unless the test names another.
var ErrInjected = errors.New("injected fault")

// Budget bounds how often a fault fires and counts how often it did. It is safe for concurrent use.
type Budget struct {
	left  atomic.Int64
	fired atomic.Int64
}

// Times returns a budget for n firings.
func Times(n int) *Budget {
	b := new(Budget)
	b.left.Store(int64(n))
	return b
}

// Fired returns how often the fault has fired.
func (b *Budget) Fired() int { return int(b.fired.Load()) }

// take uses up one firing, if one is left. A nil budget has none.
func (b *Budget) take() bool {
	if b == nil || b.left.Add(-1) < 0 {
		return false
	}
	b.fired.Add(1)
	return true
}

// Reader returns a reader whose first calls fail with err, ErrInjected if it is nil, until budget is used up; then it
// reads from r.
func Reader(r io.Reader, budget *Budget, err error) io.Reader {
	return &reader{r, budget, orInjected(err)}
}

type reader struct {
	r      io.Reader
	budget *Budget
	err    error
}

func (r *reader) Read(p []byte) (int, error) {
	if r.budget.take() {
		return 0, r.err
	}
	return r.r.Read(p)
}

// Writer returns a writer whose first calls fail with err, ErrInjected if it is nil, until budget is used up; then it
// writes to w.
func Writer(w io.Writer, budget *Budget, err error) io.Writer {
	return &writer{w, budget, orInjected(err)}
}

type writer struct {
	w      io.Writer
	budget *Budget
	err    error
}

func (w *writer) Write(p []byte) (int, error) {
	if w.budget.take() {
		return 0, w.err
	}
	return w.w.Write(p)
}

func orInjected(err error) error {
	if err == nil {
		return ErrInjected
	}
	return err
}
