package statsapi

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/firstseen/firstseen/internal/health"
)

const textType = "text/plain; charset=utf-8"

// livez depends on nothing: it says that the process answers.
func livez(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", textType)
	fmt.Fprintln(w, "ok")
}

// readyz asks every check, and says not ready from the moment on that the API drains.
func (a *API) readyz(w http.ResponseWriter, r *http.Request) {
	lines, ready := health.Ask(r.Context(), a.opts.Checks)
	if a.draining.Load() {
		lines, ready = append(lines, "[-] shutting down"), false
	} else {
		lines = append(lines, "[+] serving")
	}
	a.logReadiness(lines, ready)
	health.Answer(w, r, lines, ready)
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
