package main

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/firstseen/firstseen/internal/health"
	"github.com/firstseen/firstseen/internal/presence"
	"github.com/firstseen/firstseen/server"
)

// admin serves /livez, /readyz, /metrics, pprof and what an operator may change, for one process, apart from its public
// ports.
type admin struct {
	listener net.Listener
	server   *http.Server
}

// adminOptions configure an admin.
type adminOptions struct {
	addr     string
	gatherer prometheus.Gatherer
	checks   []health.Check
	token    string   // what whoever changes something must show; empty: nobody may
	nodes    cordoner // nil: this process holds no nodes

	census   func() presence.Census  // nil: this process is no server
	refusals func() []server.Refusal // likewise

	switcher switcher // nil: this process is no replica
}

// newAdmin binds the address.
func newAdmin(ctx context.Context, o adminOptions) (*admin, error) {
	var lc net.ListenConfig
	listener, err := lc.Listen(ctx, "tcp", o.addr)
	if err != nil {
		return nil, fmt.Errorf("bind admin port (--admin): %w", err)
	}
	return &admin{listener, &http.Server{
		Handler:           o.handler(),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      2 * time.Minute, // a profile takes as long as it was asked to
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
	}}, nil
}

func (o adminOptions) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", readyz(o.checks))
	mux.HandleFunc("GET /healthz", readyz(o.checks))
	mux.Handle("GET /metrics", promhttp.HandlerFor(o.gatherer, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	mux.Handle("GET "+refusalsPath, authenticated(o.token, tellRefusals(o.refusals)))
	mux.HandleFunc("GET "+censusPath, tellCensus(o.token, o.census, time.Now))
	mux.Handle("POST /v1/nodes/{name}/cordon", authenticated(o.token, turnNode(o.nodes, cordoner.Cordon, "cordoned")))
	mux.Handle("POST /v1/nodes/{name}/uncordon", authenticated(o.token, turnNode(o.nodes, cordoner.Uncordon, "uncordoned")))
	mux.Handle("POST "+switchPath, authenticated(o.token, switchRole(o.switcher)))
	return mux
}

// authenticated lets through who shows the secret as RFC 6750 says: Authorization: Bearer <token>. Without one
// configured it lets nobody through, so that nothing is open by oversight.
func authenticated(secret string, next http.Handler) http.Handler {
	want := sha256.Sum256([]byte(secret))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if secret == "" {
			http.Error(w, "this process has no admin token, so nothing can be changed here: start it with admin_token in "+
				"its configuration, FIRSTSEEN_ADMIN_TOKEN, or FIRSTSEEN_ADMIN_TOKEN_FILE naming a file that holds it",
				http.StatusForbidden)
			return
		}
		scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		got := sha256.Sum256([]byte(token)) // hashes are of one length, so that the comparison does not tell the token's
		if same := subtle.ConstantTimeCompare(got[:], want[:]) == 1; !same || !strings.EqualFold(scheme, "Bearer") {
			w.Header().Set("WWW-Authenticate", "Bearer")
			http.Error(w, "the admin token is missing or another", http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func readyz(checks []health.Check) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		lines, ready := health.Ask(r.Context(), checks)
		health.Answer(w, r, lines, ready)
	}
}

// Run serves until ctx ends.
func (a *admin) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = a.server.Close() })
	defer stop()
	if err := a.server.Serve(a.listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve admin port: %w", err)
	}
	return nil
}
