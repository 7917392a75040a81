package statsapi

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/go-chi/chi/v5/middleware"
	"github.com/sirupsen/logrus"
	"golang.org/x/time/rate"

	"github.com/firstseen/firstseen/internal/callers"
)

// AccessMode says who may read.
type AccessMode string

// The modes of access.
const (
	// AccessAuto answers everybody at an address that only this machine reaches, and at any other whoever shows an access
	// key of scope read.
	AccessAuto AccessMode = "auto"
	AccessOpen AccessMode = "open" // everybody, wherever the API listens
	AccessKeys AccessMode = "keys" // whoever shows an access key of scope read, wherever the API listens
)

// Access says who may read, and how much. Health checks and the description of the API are everybody's.
type Access struct {
	Mode    AccessMode     // default AccessAuto
	Keys    KeyReader      // nil: there are no keys
	Trusted []netip.Prefix // proxies whose X-Forwarded-For is believed; none by default
	Rate    float64        // requests a second of one caller: a key, else a client address; 0: no limit
	Burst   int            // requests at once within Rate; default twice the rate, and 10 at least
	Log     bool           // a line for each request

	recheck time.Duration // instead of the usual time between looks at the key of a long request; for tests
}

func (o *Access) check() error {
	switch {
	case o.Mode != "" && o.Mode != AccessAuto && o.Mode != AccessOpen && o.Mode != AccessKeys:
		return fmt.Errorf("statsapi: access mode %q: use auto, open or keys", o.Mode)
	case !(o.Rate >= 0 && o.Rate <= 1e6) || o.Burst < 0:
		return errors.New("statsapi: rate and burst must not be negative, nor the rate above 1,000,000")
	case o.Mode == AccessKeys && o.Keys == nil:
		return errors.New("statsapi: access by keys only, and no keys")
	}
	return nil
}

// keyPrefix is what every access key begins with.
const keyPrefix = "fsk_"

// maxCallers is how many callers' budgets are remembered: see callers.Generations.
const maxCallers = 1 << 16

// access decides about each request before anything else looks at it.
type access struct {
	Access
	open    bool // to who shows no key
	log     logrus.FieldLogger
	metrics *metrics
	keys    *keyring
	budgets *callers.Generations[budget]
}

type budget struct{ *rate.Limiter }

func newAccess(o Options, m *metrics, bound net.Addr) *access {
	a := &access{
		Access: o.Access, log: o.Log, metrics: m, keys: newKeyring(o.Access.Keys, o.Now),
		budgets: callers.NewGenerations[budget](maxCallers, time.Minute, o.Now),
	}
	if a.recheck > 0 {
		a.keys.every, a.keys.fresh = a.recheck, -1
	}
	if a.Burst == 0 {
		a.Burst = max(int(2*a.Rate), 10)
	}
	local := loopback(bound)
	a.open = a.Mode == AccessOpen || a.Mode != AccessKeys && local
	log := a.log.WithField("addr", bound.String())
	switch {
	case !a.open && !local && a.Mode != AccessKeys:
		log.Warn("others than this machine reach this address, so only who shows an access key is answered: make one with " +
			"`firstseen keys create --scope read`, or set stats.access to open for everybody")
	case a.open && !local && a.Rate == 0:
		log.Warn("everybody who reaches this address is answered, without a limit: set stats.rate, or stats.access to keys")
	}
	return a
}

func loopback(a net.Addr) bool {
	tcp, ok := a.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}

// caller is for whom a request counts.
type caller struct {
	id   string // the same for all requests of one key, or of one client's network
	addr netip.Addr
	key  *shownKey // nil where none was shown
}

type callerKey struct{}

// callerOf returns for whom a request counts.
func callerOf(ctx context.Context) caller {
	who, _ := ctx.Value(callerKey{}).(caller)
	return who
}

// admit lets through who may read and has budget left.
func (a *access) admit(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		who, refusal := a.judge(r)
		if a.Log && !probe(r.URL.Path) {
			ww := middleware.NewWrapResponseWriter(w, r.ProtoMajor)
			defer a.line(r, ww, who, time.Now())
			w = ww
		}
		if refusal != nil {
			a.metrics.refused.WithLabelValues(refusal.reason).Inc()
			refusal.answer(w, r)
			return
		}
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), callerKey{}, who)))
	})
}

// refusal is why a request is not answered, and how it is told.
type refusal struct {
	reason string // of the metric
	status int
	detail string
	after  time.Duration // to come again; 0: not said
}

func (f refusal) answer(w http.ResponseWriter, r *http.Request) {
	if f.status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Bearer realm="firstseen"`)
	}
	if f.after > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(f.after.Seconds()))))
	}
	if r.URL.Path == rpcPath {
		writeRPCError(w, f.status, f.rpc())
		return
	}
	writeProblem(w, f.status, f.detail)
}

// judge tells who asks, or why there is no answer. Whoever shows no good key spends of the budget of their address, also
// for trying: so nobody can guess keys, or have the store look them up, faster than that.
func (a *access) judge(r *http.Request) (caller, *refusal) {
	addr := callers.Address(r, a.Trusted)
	who := caller{id: "address " + callers.Network(addr), addr: addr}
	if probe(r.URL.Path) {
		return who, nil
	}
	if strings.Contains(r.RequestURI, keyPrefix) {
		return who, &refusal{reason: "url", status: http.StatusBadRequest, detail: "an access key does not belong into a URL, " +
			"which ends up in logs; send it as Authorization: Bearer, and replace this one"}
	}
	text, shown := shownToken(r)
	if !shown {
		if !a.open && !public(r) {
			return who, a.spendOr(who, &refusal{reason: "key", status: http.StatusUnauthorized,
				detail: "an access key is needed: send it as Authorization: Bearer fsk_..."})
		}
		return who, a.spend(who)
	}
	key, err := a.keys.cached(text)
	if errors.Is(err, errNotCached) {
		if f := a.spend(who); f != nil {
			return who, f
		}
		key, err = a.keys.look(r.Context(), text)
	}
	if err != nil {
		return who, a.spendOr(who, keyRefusal(err))
	}
	who.id, who.key = "key "+key.token.ID(), key
	return who, a.spend(who)
}

// probe tells the paths that are answered whoever asks and however often: what asks them is the platform.
func probe(path string) bool { return path == "/livez" || path == "/readyz" || path == "/healthz" }

// public tells what is answered without a key: what tells nothing of what is stored, and what browsers ask before they
// send a key along.
func public(r *http.Request) bool {
	path := r.URL.Path
	return path == "/" || path == "/openapi.json" || path == "/docs" || strings.HasPrefix(path, "/docs/") ||
		strings.HasPrefix(path, "/assets/") ||
		r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != ""
}

// spendOr prefers the news that the budget is spent.
func (a *access) spendOr(who caller, f *refusal) *refusal {
	if spent := a.spend(who); spent != nil {
		return spent
	}
	return f
}

func (a *access) spend(who caller) *refusal { return a.charge(who, 1) }

// charge takes several requests' worth of a caller's budget, all of it at most.
func (a *access) charge(who caller, n int) (f *refusal) {
	if n = min(n, a.Burst); a.Rate == 0 || n <= 0 {
		return nil
	}
	a.budgets.Use(who.id, true, func(b *budget, now time.Time) {
		if b.Limiter == nil {
			b.Limiter = rate.NewLimiter(rate.Limit(a.Rate), a.Burst)
		}
		if b.AllowN(now, n) {
			return
		}
		wait := time.Duration((float64(n) - b.TokensAt(now)) / a.Rate * float64(time.Second))
		f = &refusal{reason: "rate", status: http.StatusTooManyRequests, after: max(wait, time.Second),
			detail: fmt.Sprintf("more than %v requests a second", a.Rate)}
	})
	return f
}
