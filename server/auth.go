package server

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/firstseen/firstseen/internal/keys"
	"github.com/firstseen/firstseen/internal/wire"
	"github.com/firstseen/firstseen/schema"
)

// Keys knows the access keys that were given out.
type Keys interface {
	// LookupKeys returns those of the given keys that exist, revoked or not, in any order.
	LookupKeys(ctx context.Context, ids []string) ([]schema.AccessKey, error)
}

// identity is how an observer has proved its name; the zero value is nobody's.
type identity struct {
	key   string    // id of its access key, or empty
	until time.Time // when its certificate expires; zero for a key
}

func (i identity) proved() bool { return i != identity{} }

// authenticate finds out whether the observer is who it says. An access key that is shown must be good, even where
// none is asked for; without one, a client certificate that was verified speaks for the observer whose name it bears.
func (r *relay) authenticate(ctx context.Context) error {
	token := r.hello.Token
	r.hello.Token = "" // nothing else needs it
	var how string
	var err error
	switch name := r.certified(); {
	case token != "":
		how, err = "key", r.authenticateKey(ctx, token)
	case !name.IsZero():
		how, r.identity = "certificate", identity{until: name}
	case r.srv.opt.RequireAuth && r.tls != nil && len(r.tls.ConnectionState().VerifiedChains) > 0:
		how, err = "certificate", denied("the client certificate is not this observer's, and there is no access key")
	case r.srv.opt.RequireAuth:
		how, err = "none", denied("this server wants an access key (client.token, over TLS)")
	default:
		how = "none"
	}
	result := "accepted"
	if err != nil {
		result = "refused"
	}
	r.srv.metrics.logins.WithLabelValues(how, result).Inc()
	return err
}

func denied(text string) *wire.Fatal { return &wire.Fatal{Code: wire.CodeAuth, Text: text} }

// authenticateKey checks the token of a HELLO. What it answers and logs names the key, never the secret.
func (r *relay) authenticateKey(ctx context.Context, text string) error {
	if r.tls == nil {
		return denied("an access key must travel over TLS only: this one is no secret any more, revoke it")
	}
	token, err := keys.Parse(text)
	if err != nil {
		return denied(err.Error())
	}
	log := r.log().WithField("key", token.ID())
	key, err := r.srv.lookup(ctx, token.ID())
	if err != nil {
		log.WithError(err).Warn("access keys cannot be looked up, observer sent away")
		return &wire.Fatal{Retry: true, Code: wire.CodeStore, Text: "the store does not answer"}
	}
	if err = token.Opens(key, schema.ScopeObserve); err == nil && key.Observer != r.hello.Observer {
		err = denied("the access key is not this observer's") // whoever shows a good key may know as much
	}
	if err != nil {
		log.WithError(err).Warn("access key refused")
		return asDenied(err)
	}
	r.identity = identity{key: key.ID}
	return nil
}

func asDenied(err error) *wire.Fatal {
	if fatal, ok := err.(*wire.Fatal); ok { //nolint:errorlint // ours, just made
		return fatal
	}
	return denied(err.Error())
}

// lookup returns one key, the zero one if there is none of that id: no token opens it.
func (s *Server) lookup(ctx context.Context, id string) (schema.AccessKey, error) {
	if s.opt.Keys == nil {
		return schema.AccessKey{}, nil
	}
	found, err := s.opt.Keys.LookupKeys(ctx, []string{id})
	if err != nil || len(found) == 0 {
		return schema.AccessKey{}, err
	}
	return found[0], nil
}

// certified returns when the verified certificate expires whose common name or DNS name is the observer's, letter for
// letter; zero if there is none.
func (r *relay) certified() time.Time {
	if r.tls == nil {
		return time.Time{}
	}
	chains := r.tls.ConnectionState().VerifiedChains
	if len(chains) == 0 {
		return time.Time{}
	}
	leaf := chains[0][0]
	if leaf.Subject.CommonName != r.hello.Observer && !slices.Contains(leaf.DNSNames, r.hello.Observer) {
		return time.Time{}
	}
	return leaf.NotAfter
}

// keysAtOnce bounds one look-up.
const keysAtOnce = 256

// guard looks every keysEvery whether those who are connected may still be, until ctx ends. A look-up that fails is made
// up for by the next: nobody is cut because the store does not answer, and it stores nothing meanwhile either.
func (s *Server) guard(ctx context.Context) {
	ticker := time.NewTicker(keysEvery)
	defer ticker.Stop()
	failing := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		err := s.review(ctx)
		switch {
		case err != nil && !failing:
			s.opt.Log.WithError(err).Warn("access keys of open sessions cannot be looked up; further failures are not logged")
		case err == nil && failing:
			s.opt.Log.Info("access keys of open sessions are looked up again")
		}
		failing = err != nil
	}
}

// review cuts the sessions whose key was revoked, or whose certificate has expired. Who has a new certificate by now may
// come back with it.
func (s *Server) review(ctx context.Context) error {
	proved := s.proved()
	now := s.opt.Now()
	for _, r := range proved[""] {
		if now.After(r.identity.until) {
			r.cut(&wire.Fatal{Retry: true, Code: wire.CodeAuth, Text: "the client certificate has expired"})
		}
	}
	delete(proved, "")
	for ids := range slices.Chunk(slices.Collect(maps.Keys(proved)), keysAtOnce) {
		good, err := s.goodKeys(ctx, ids)
		if err != nil {
			return err
		}
		for _, id := range ids {
			for _, r := range proved[id] {
				if !good[id] {
					r.cut(denied(keys.ErrRevoked.Error()))
				}
			}
		}
	}
	return nil
}

func (s *Server) goodKeys(ctx context.Context, ids []string) (map[string]bool, error) {
	ctx, cancel := context.WithTimeout(ctx, keysWithin)
	defer cancel()
	found, err := s.opt.Keys.LookupKeys(ctx, ids)
	if err != nil {
		return nil, err
	}
	good := make(map[string]bool, len(found))
	for _, k := range found {
		good[k.ID] = k.RevokedAt == nil
	}
	return good, nil
}

// proved returns the open sessions that have proved their name, by the id of their key; those with a certificate are
// under "".
func (s *Server) proved() map[string][]*relay {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[string][]*relay{}
	for c := range s.conns {
		if r := c.session(); r != nil && r.identity.proved() {
			out[r.identity.key] = append(out[r.identity.key], r)
		}
	}
	return out
}

// session returns the connection's session, nil before its W and in bare mode.
func (c *conn) session() *relay {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.relay
}

// cut ends a session from outside: nothing more is read, what is outstanding is settled and told, then comes why.
func (r *relay) cut(why *wire.Fatal) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cutFor = why
	r.in.stop(time.Now()) // also a frame that waits for room in the store
}

// wasCut returns why, nil if it was not.
func (r *relay) wasCut() *wire.Fatal {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.cutFor
}
