package statsapi

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/http"
	"runtime/debug"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"
	"github.com/klauspost/compress/gzhttp"
	"github.com/rs/cors"

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

// cross lets pages of the configured origins read answers (Fetch Standard, CORS protocol). Nothing here depends on
// cookies, so none are let through.
func (a *API) cross() func(http.Handler) http.Handler {
	return cors.New(cors.Options{
		AllowedOrigins: a.opts.Origins,
		AllowedMethods: []string{http.MethodGet, http.MethodHead, http.MethodPost},
		AllowedHeaders: []string{"Authorization", "Content-Type", "If-None-Match", minHeightHeader, "X-Request-Id"},
		ExposedHeaders: []string{"Etag", "Link", "Retry-After", heightHeader, "X-Request-Id"},
		MaxAge:         600,
	}).Handler
}

// compress makes answers of a kilobyte and more smaller for those who take gzip.
func compress() (func(http.Handler) http.Handler, error) {
	wrap, err := gzhttp.NewWrapper(gzhttp.MinSize(1024), gzhttp.ContentTypes([]string{
		"application/json", problemType, documentType, "text/plain", "text/html",
	}))
	if err != nil {
		return nil, fmt.Errorf("statsapi: compression: %w", err)
	}
	return func(next http.Handler) http.Handler { return wrap(next) }, nil
}

// handler puts the routes together.
func (a *API) handler() (http.Handler, error) {
	r := chi.NewRouter()
	r.Use(identify, harden)
	if len(a.opts.Origins) > 0 {
		r.Use(a.cross())
	}
	r.Use(a.metrics.observe, a.survive, a.access.admit, middleware.GetHead)
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
	if a.live != nil {
		a.live.route(r)
	}
	smaller, err := compress()
	if err != nil {
		return nil, err
	}
	r.With(a.limit, smaller).HandleFunc(rpcPath, a.postRPC)
	// Answers that are made as a whole; what streams goes to r itself.
	answers := r.With(a.limit, smaller, a.awaitHeight, tag)
	a.routeCat(answers)
	a.routeV1(answers)
	a.routeEventStore(r)
	return r, a.routeDocs(r.With(smaller, tag))
}
