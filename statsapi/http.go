package statsapi

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/http"
	"runtime/debug"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"

	"github.com/firstseen/firstseen/schema"
)

// policy lets a browser do nothing with an answer but show it. Payloads are what anybody sent; sandbox puts each into
// an origin of its own, without scripts, even where somebody opens it in a tab.
const policy = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'; sandbox"

type requestKey struct{}

// requestID returns the id that the answer to this request carries.
func requestID(ctx context.Context) string {
	id, _ := ctx.Value(requestKey{}).(string)
	return id
}

// identify takes the client's X-Request-Id, if it may go into a log line, or makes one, and answers with it.
func identify(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := r.Header.Get("X-Request-Id")
		if !schema.ValidName(id) {
			id = rand.Text()
		}
		w.Header().Set("X-Request-Id", id)
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), requestKey{}, id)))
	})
}

// harden sets headers that make every answer inert.
func harden(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-cache")
		next.ServeHTTP(w, r)
	})
}

// limit gives the store a deadline. Each answer has one form, so it does not matter which one the client would like.
func (a *API) limit(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), a.opts.RequestTimeout)
		defer cancel()
		r = r.WithContext(ctx)
		r.Header.Del("Accept")
		next.ServeHTTP(w, r)
	})
}

// survive answers a panic with a problem, unless an answer has begun.
func (a *API) survive(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ww := middleware.NewWrapResponseWriter(w, r.ProtoMajor)
		defer func() {
			v := recover()
			if v == nil {
				return
			}
			if v == http.ErrAbortHandler { //nolint:errorlint // net/http compares it so, too
				panic(v)
			}
			a.log.WithField("request", requestID(r.Context())).Errorf("panic: %v\n%s", v, debug.Stack())
			if ww.Status() == 0 {
				writeProblem(ww, http.StatusInternalServerError, "internal error")
			}
		}()
		next.ServeHTTP(ww, r)
	})
}

// handler puts the routes together.
func (a *API) handler() (http.Handler, error) {
	r := chi.NewRouter()
	r.Use(identify, harden, a.metrics.observe, a.survive, a.access.admit, middleware.GetHead)
	r.NotFound(func(w http.ResponseWriter, r *http.Request) {
		writeProblem(w, http.StatusNotFound, fmt.Sprintf("nothing is served at %s", clip(r.URL.Path)))
	})
	r.MethodNotAllowed(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Allow", "GET, HEAD") // of every route
		writeProblem(w, http.StatusMethodNotAllowed, fmt.Sprintf("%s is not allowed here: this API only reads",
			clip(r.Method)))
	})
	r.Get("/", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/_cat", http.StatusFound) })
	r.Get("/livez", livez)
	r.Get("/readyz", a.readyz)
	r.Get("/healthz", a.readyz)
	r.Method(http.MethodGet, "/metrics", metricsHandler(a.opts.Gatherer))
	limited := r.With(a.limit)
	a.routeCat(limited)
	a.routeEventStore(r)
	a.routeV1(limited)
	document, err := a.document()
	if err != nil {
		return nil, err
	}
	r.Get("/openapi.json", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/openapi+json")
		_, _ = w.Write(document)
	})
	return r, nil
}
