package gateway

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/time/rate"

	"github.com/firstseen/firstseen/internal/callers"
	"github.com/firstseen/firstseen/schema"
)

// keyHeader carries a caller's API key. It is not taken from the URL, which ends up in logs.
const keyHeader = "X-Api-Key"

var errKey = errors.New("no such API key")

// caller is who a request counts for: the owner of an API key, else a client address.
type caller struct {
	id    string
	rate  rate.Limit // calls a second; 0: no limit
	burst int
}

// apiKey is one line of the file of keys.
type apiKey struct {
	name string
	hash [sha256.Size]byte
	rate float64 // negative: the default
}

// keyring is the file of keys as last read.
type keyring map[[sha256.Size]byte]apiKey

// readKeys reads a file with a key on each line: a name, the hex of the key's SHA-256 and, if it has one of its own,
// the calls a second that it may make; 0 means no limit. Empty lines and those that begin with # say nothing.
func readKeys(path string) (keyring, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read API keys: %w", err)
	}
	ring := make(keyring)
	lines := bufio.NewScanner(bytes.NewReader(text))
	for n := 1; lines.Scan(); n++ {
		fields := strings.Fields(lines.Text())
		if len(fields) == 0 || strings.HasPrefix(fields[0], "#") {
			continue
		}
		key, err := parseKey(fields)
		if err != nil {
			return nil, fmt.Errorf("read API keys: line %d: %w", n, err)
		}
		ring[key.hash] = key
	}
	return ring, nil
}

func parseKey(fields []string) (apiKey, error) {
	if len(fields) < 2 || len(fields) > 3 || !schema.ValidName(fields[0]) {
		return apiKey{}, errors.New("want a name, a SHA-256 in hex, and perhaps calls a second")
	}
	key := apiKey{name: fields[0], rate: -1}
	if n, err := hex.Decode(key.hash[:], []byte(fields[1])[:min(len(fields[1]), 2*sha256.Size)]); err != nil ||
		n != sha256.Size || len(fields[1]) != 2*sha256.Size {
		return apiKey{}, errors.New("the hash is not 64 hex digits") // and is not shown: it may be the key itself
	}
	if len(fields) == 3 {
		r, err := strconv.ParseFloat(fields[2], 64)
		if err != nil || !(r >= 0 && r <= 1e6) {
			return apiKey{}, fmt.Errorf("%q is not a number of calls a second", fields[2])
		}
		key.rate = r
	}
	return key, nil
}

// find looks a key up by its hash. What a map does in time that depends on its content concerns the hash only; the
// whole hash is then compared in constant time.
func (r keyring) find(secret string) (apiKey, bool) {
	hash := sha256.Sum256([]byte(secret))
	key, ok := r[hash]
	return key, ok && subtle.ConstantTimeCompare(key.hash[:], hash[:]) == 1
}

// identify tells whom a request counts for.
func (g *Gateway) identify(r *http.Request) (caller, error) {
	who := caller{rate: rate.Limit(g.opts.Rate), burst: g.opts.Burst}
	var ring keyring
	if r := g.keys.Load(); r != nil {
		ring = *r
	}
	secret := r.Header.Get(keyHeader)
	switch {
	case ring == nil: // without a file of keys anybody could make one up for each request
	case secret != "":
		key, ok := ring.find(secret)
		if !ok {
			return caller{}, errKey
		}
		who.id = "key " + key.name
		if key.rate >= 0 {
			who.rate, who.burst = rate.Limit(key.rate), max(int(2*key.rate), g.opts.MaxBatch)
		}
		return who, nil
	case g.opts.RequireKey:
		return caller{}, errKey
	}
	who.id = callers.Network(callers.Address(r, g.opts.Trusted))
	return who, nil
}

// spend takes n calls from a caller's budget, or tells after what time there will be enough of it again.
func (g *Gateway) spend(who caller, n int) (wait time.Duration, ok bool) {
	if who.rate == 0 {
		return 0, true
	}
	g.limits.Use(who.id, true, func(l *limiter, now time.Time) {
		if l.Limiter == nil || l.Limit() != who.rate {
			l.Limiter = rate.NewLimiter(who.rate, who.burst)
		}
		if ok = l.AllowN(now, n); !ok {
			missing := float64(n) - l.TokensAt(now)
			wait = time.Duration(missing / float64(who.rate) * float64(time.Second))
		}
	})
	return wait, ok
}

type limiter struct{ *rate.Limiter }
