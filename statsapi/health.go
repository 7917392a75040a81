package statsapi

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"
)

const textType = "text/plain; charset=utf-8"

// livez depends on nothing: it says that the process answers.
func livez(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", textType)
	fmt.Fprintln(w, "ok")
}

// readyz answers 200 while every check passes and 503 otherwise, with a line for each check if one fails or the
// request has ?verbose.
func (a *API) readyz(w http.ResponseWriter, r *http.Request) {
	lines, ready := a.check(r.Context())
	a.logReadiness(lines, ready)
	status, body := http.StatusOK, "ok\n"
	if !ready {
		status = http.StatusServiceUnavailable
	}
	if !ready || r.URL.Query().Has("verbose") {
		body = strings.Join(lines, "\n") + "\n"
	}
	w.Header().Set("Content-Type", textType)
	w.WriteHeader(status)
	_, _ = w.Write([]byte(body))
}

// check runs all checks at once, so that one that hangs costs no more than its deadline.
func (a *API) check(ctx context.Context) (lines []string, ready bool) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	errs := make([]error, len(a.opts.Checks))
	var wg sync.WaitGroup
	for i, c := range a.opts.Checks {
		wg.Go(func() { errs[i] = c.Ready(ctx) })
	}
	wg.Wait()
	ready = true
	for i, c := range a.opts.Checks {
		if errs[i] == nil {
			lines = append(lines, "[+] "+c.Name+" ok")
			continue
		}
		ready = false
		lines = append(lines, fmt.Sprintf("[-] %s: %v", c.Name, errs[i]))
	}
	if a.draining.Load() {
		return append(lines, "[-] shutting down"), false
	}
	return append(lines, "[+] serving"), ready
}

func (a *API) logReadiness(lines []string, ready bool) {
	now := ""
	if !ready {
		now = strings.Join(lines, "; ")
	}
	before := a.unready.Swap(&now)
	switch was := before != nil && *before != ""; {
	case !ready && !was:
		a.log.WithField("checks", now).Warn("not ready")
	case ready && was:
		a.log.Info("ready again")
	}
}
