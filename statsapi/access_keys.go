package statsapi

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/firstseen/firstseen/internal/callers"
	"github.com/firstseen/firstseen/internal/keys"
	"github.com/firstseen/firstseen/schema"
)

// KeyReader finds access keys, revoked ones, too.
type KeyReader interface {
	LookupKey(ctx context.Context, id string) (k schema.AccessKey, found bool, err error)
}

const (
	keyFresh  = 20 * time.Second // for so long a key that was looked up is believed
	keyStale  = 50 * time.Second // for so long while it cannot be looked up again: revoking works within a minute
	maxKeys   = 4096             // looked up keys that are remembered: see callers.Generations
	wsKeyWord = "firstseen.bearer."

	// wsProtocol is what a page's script offers besides its key: a browser wants one of its offers taken, and the key is
	// not given back.
	wsProtocol = "firstseen.v1"
)

// What a shown key can be short of, besides what package keys says.
var (
	errNotCached = errors.New("not looked up lately")
	errNoStore   = errors.New("the store cannot be asked about access keys")
)

// shownKey is a key whose secret was shown.
type shownKey struct {
	token keys.Token
	good  time.Time // when the store last said so
}

// keyring knows the keys that were looked up lately.
type keyring struct {
	reader KeyReader // nil: there are no keys
	now    func() time.Time
	fresh  time.Duration // for so long what the store said is believed
	every  time.Duration // between looks at the key of a long request
	known  *callers.Generations[knownKey]
}

type knownKey struct {
	key     schema.AccessKey
	checked time.Time // zero: never
}

func newKeyring(reader KeyReader, now func() time.Time) *keyring {
	return &keyring{
		reader: reader, now: now, fresh: keyFresh, every: keyFresh / 2,
		known: callers.NewGenerations[knownKey](maxKeys, time.Minute, now),
	}
}

// shownToken returns the access key that a request shows: as Authorization: Bearer (RFC 6750 section 2.1), as X-Api-Key,
// or, since a page's script cannot set headers of a WebSocket, as the offered subprotocol firstseen.bearer.<key>. Other
// schemes of Authorization are somebody else's, a proxy's for example.
func shownToken(r *http.Request) (text string, shown bool) {
	if scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " "); ok && strings.EqualFold(scheme, "Bearer") {
		return strings.TrimSpace(token), true
	}
	if token := r.Header.Get("X-Api-Key"); token != "" {
		return token, true
	}
	for _, line := range r.Header.Values("Sec-WebSocket-Protocol") {
		for word := range strings.SplitSeq(line, ",") {
			if token, ok := strings.CutPrefix(strings.TrimSpace(word), wsKeyWord); ok {
				return token, true
			}
		}
	}
	return "", false
}

// cached judges a token by what is known of its key, and says errNotCached if that is too little.
func (k *keyring) cached(text string) (*shownKey, error) {
	token, err := keys.Parse(text)
	if err != nil {
		return nil, err
	}
	var known knownKey
	k.known.Use(token.ID(), false, func(v *knownKey, _ time.Time) { known = *v })
	if known.checked.IsZero() || k.now().Sub(known.checked) > k.fresh {
		return nil, errNotCached
	}
	return &shownKey{token, known.checked}, token.Opens(known.key, schema.ScopeRead)
}

// look asks the store. While that does not answer, what it said before counts for a little longer.
func (k *keyring) look(ctx context.Context, text string) (*shownKey, error) {
	token, err := keys.Parse(text)
	if err != nil {
		return nil, err
	}
	if k.reader == nil {
		return nil, keys.ErrSecret
	}
	key, found, err := k.reader.LookupKey(ctx, token.ID())
	known := knownKey{key, k.now()}
	switch {
	case err != nil:
		k.known.Use(token.ID(), false, func(v *knownKey, _ time.Time) { known = *v })
		if err := token.Opens(known.key, schema.ScopeRead); err != nil || k.now().Sub(known.checked) > keyStale {
			return nil, errNoStore
		}
	case !found:
		return nil, keys.ErrSecret
	default:
		k.known.Use(token.ID(), true, func(v *knownKey, _ time.Time) { *v = known })
	}
	return &shownKey{token, known.checked}, token.Opens(known.key, schema.ScopeRead)
}

// keyRefusal says what is wrong with a key. Whether an id exists is nobody's business who has not its secret.
func keyRefusal(err error) *refusal {
	switch {
	case errors.Is(err, errNoStore):
		return &refusal{reason: "store", status: http.StatusServiceUnavailable, detail: "access keys cannot be checked now",
			after: time.Second}
	case errors.Is(err, keys.ErrScope):
		return &refusal{reason: "scope", status: http.StatusForbidden, detail: "this access key does not allow reading: use one of scope read"}
	case errors.Is(err, keys.ErrForm):
		return &refusal{reason: "key", status: http.StatusUnauthorized, detail: err.Error()}
	}
	return &refusal{reason: "key", status: http.StatusUnauthorized, detail: "the access key is unknown or was revoked"}
}

var errRevoked = errors.New("the access key was revoked")

// whileWelcome ends a long request's context once its key is revoked, within a minute of that, with errRevoked as the
// cause. What was asked without a key may go on.
func (a *access) whileWelcome(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		key := callerOf(r.Context()).key
		if key == nil {
			next.ServeHTTP(w, r)
			return
		}
		ctx, cancel := context.WithCancelCause(r.Context())
		watched := make(chan struct{})
		go func() { defer close(watched); a.keys.watch(ctx, *key, cancel) }()
		defer func() { cancel(nil); <-watched }()
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

// watch calls end once the key is good no more, and returns then or when ctx ends.
func (k *keyring) watch(ctx context.Context, key shownKey, end context.CancelCauseFunc) {
	tick := time.NewTicker(k.every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		seen, err := k.cached(key.token.Reveal()) // many requests may have one key
		if errors.Is(err, errNotCached) {
			seen, err = k.look(ctx, key.token.Reveal())
		}
		switch {
		case err == nil:
			key.good = seen.good
		case ctx.Err() != nil:
			return
		case !errors.Is(err, errNoStore) || k.now().Sub(key.good) > keyStale:
			end(errRevoked)
			return
		}
	}
}
