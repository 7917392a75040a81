// Package health tells whether a process should be sent work, in one form for every port that is asked.
package health

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// Check is one named reason to be, or not to be, ready. Ready must honour its context's deadline.
type Check struct {
	Name  string
	Ready func(ctx context.Context) error

	// Degraded says what an operator should look at although the process is ready; empty: nothing. It may be nil.
	Degraded func() string
}

// patience is how long checks may take; one that hangs counts as failed.
const patience = 2 * time.Second

// Ask runs all checks at once and returns a line for each, in their order, and whether all of them passed.
func Ask(ctx context.Context, checks []Check) (lines []string, ready bool) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	errs := make([]error, len(checks))
	var wg sync.WaitGroup
	for i, c := range checks {
		wg.Go(func() { errs[i] = c.Ready(ctx) })
	}
	wg.Wait()
	ready = true
	for i, c := range checks {
		var degraded string
		if c.Degraded != nil {
			degraded = c.Degraded()
		}
		switch {
		case errs[i] != nil:
			ready = false
			lines = append(lines, fmt.Sprintf("[-] %s: %v", c.Name, errs[i]))
		case degraded != "":
			lines = append(lines, fmt.Sprintf("%s%s degraded: %s", mark, c.Name, degraded))
		default:
			lines = append(lines, "[+] "+c.Name+" ok")
		}
	}
	return lines, ready
}

// mark begins the line of a check that passed, degraded.
const mark = "[!] "

// Answer writes 200 when ready and 503 otherwise, with the lines if not ready, degraded or the request has ?verbose.
func Answer(w http.ResponseWriter, r *http.Request, lines []string, ready bool) {
	status, body := http.StatusOK, "ok\n"
	if !ready {
		status = http.StatusServiceUnavailable
	}
	degraded := slices.ContainsFunc(lines, func(line string) bool { return strings.HasPrefix(line, mark) })
	if !ready || degraded || r.URL.Query().Has("verbose") {
		body = strings.Join(lines, "\n") + "\n"
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(body))
}
