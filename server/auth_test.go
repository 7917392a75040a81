package server

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/firstseen/firstseen/internal/keys"
	"github.com/firstseen/firstseen/internal/testenv"
	"github.com/firstseen/firstseen/internal/wire"
	"github.com/firstseen/firstseen/netstring"
	"github.com/firstseen/firstseen/schema"
)

// fakeKeys are access keys in memory. fails is how many look-ups fail before the next that does not.
type fakeKeys struct {
	mu    sync.Mutex
	known map[string]schema.AccessKey
	fails int
	looks int
}

func newKeys() *fakeKeys { return &fakeKeys{known: map[string]schema.AccessKey{}} }

func (f *fakeKeys) LookupKeys(_ context.Context, ids []string) ([]schema.AccessKey, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.looks++
	if f.fails > 0 {
		f.fails--
		return nil, errFake
	}
	var out []schema.AccessKey
	for _, id := range ids {
		if k, ok := f.known[id]; ok {
			out = append(out, k)
		}
	}
	return out, nil
}

// mint makes a key and returns its token.
func (f *fakeKeys) mint(t *testing.T, scope schema.KeyScope, observer string) keys.Token {
	t.Helper()
	k, token, err := keys.Mint(scope, observer, "")
	if err != nil {
		t.Fatal(err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.known[k.ID] = k
	return token
}

func (f *fakeKeys) revoke(id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	k, now := f.known[id], time.Now()
	k.RevokedAt = &now
	f.known[id] = k
}

// helloWith is paris-1's HELLO with that token.
func helloWith(token string) string {
	content, err := wire.AppendHello(nil, wire.Hello{Observer: "paris-1", Chains: []uint64{1, 8217}, Token: token})
	if err != nil {
		panic(err)
	}
	return string(content)
}

var relayLeaf = testenv.Leaf{Hosts: []string{"relay.example"}}

// tlsOf is a server's configuration; with mutual it wants certificates of the authority.
func tlsOf(ca *testenv.Authority, mutual bool) *tls.Config {
	c := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{ca.Pair(relayLeaf)}}
	if mutual {
		c.ClientAuth, c.ClientCAs = tls.RequireAndVerifyClientCert, ca.Pool()
	}
	return c
}

func clientTLS(ca *testenv.Authority, own ...tls.Certificate) *tls.Config {
	return &tls.Config{RootCAs: ca.Pool(), ServerName: "relay.example", Certificates: own}
}

// secure speaks TLS on a peer's connection from now on.
func (p *peer) secure(config *tls.Config) *peer {
	p.nc = tls.Client(p.nc, config)
	p.dec = netstring.NewDecoder(p.nc, wire.MaxFrame)
	return p
}

func TestWhoMayRelay(t *testing.T) {
	t.Parallel()
	ca := testenv.NewAuthority(t)
	known := newKeys()
	paris, lyon := known.mint(t, schema.ScopeObserve, "paris-1"), known.mint(t, schema.ScopeObserve, "lyon-1")
	read, revoked := known.mint(t, schema.ScopeRead, ""), known.mint(t, schema.ScopeObserve, "paris-1")
	known.revoke(revoked.ID())
	_, stranger, err := keys.Mint(schema.ScopeObserve, "paris-1", "")
	if err != nil {
		t.Fatal(err)
	}
	forged := "fsk_" + paris.ID() + "_" + strings.Repeat("a", 52)
	named := []tls.Certificate{ca.Pair(testenv.Leaf{Name: "paris-1"})}
	alternative := []tls.Certificate{ca.Pair(testenv.Leaf{Name: "x", Hosts: []string{"10.0.0.1", "paris-1"}})}
	other := []tls.Certificate{ca.Pair(testenv.Leaf{Name: "Paris-1", Hosts: []string{"paris-1.example", "*"}})}
	open := start(t, func(o *Options) { o.TLS, o.PlainAddr, o.Keys = tlsOf(ca, false), "127.0.0.1:0", known })
	strict := start(t, func(o *Options) {
		o.TLS, o.PlainAddr, o.Keys, o.RequireAuth = tlsOf(ca, false), "127.0.0.1:0", known, true
	})
	mutual := start(t, func(o *Options) { o.TLS, o.Keys, o.RequireAuth = tlsOf(ca, true), known, true })
	none := start(t, func(o *Options) { o.TLS = tlsOf(ca, false) })
	const welcome = `W{"server":"relay-1",`
	for name, c := range map[string]struct {
		rig    *rig
		plain  bool
		own    []tls.Certificate
		token  string
		answer string
	}{
		"nothing asked, nothing shown":              {open, false, nil, "", welcome},
		"nothing asked, nothing shown, plain":       {open, true, nil, "", welcome},
		"nothing asked, good key":                   {open, false, nil, paris.Reveal(), welcome},
		"nothing asked, bad key":                    {open, false, nil, forged, "Estop auth the access key is unknown"},
		"nothing asked, good key in the clear":      {open, true, nil, paris.Reveal(), "Estop auth an access key must travel over TLS"},
		"key":                                       {strict, false, nil, paris.Reveal(), welcome},
		"no key":                                    {strict, false, nil, "", "Estop auth this server wants an access key"},
		"no key, plain":                             {strict, true, nil, "", "Estop auth this server wants an access key"},
		"in the clear":                              {strict, true, nil, paris.Reveal(), "Estop auth an access key must travel over TLS"},
		"wrong secret":                              {strict, false, nil, forged, "Estop auth the access key is unknown"},
		"unknown key":                               {strict, false, nil, stranger.Reveal(), "Estop auth the access key is unknown"},
		"no key at all":                             {strict, false, nil, "hunter2", "Estop auth not an access key"},
		"revoked":                                   {strict, false, nil, revoked.Reveal(), "Estop auth the access key was revoked"},
		"another observer's":                        {strict, false, nil, lyon.Reveal(), "Estop auth the access key is not this observer's"},
		"a reader's":                                {strict, false, nil, read.Reveal(), "Estop auth the access key is for something else"},
		"certificate by common name":                {mutual, false, named, "", welcome},
		"certificate by alternative name":           {mutual, false, alternative, "", welcome},
		"certificate of another":                    {mutual, false, other, "", "Estop auth the client certificate is not this observer's"},
		"certificate of another and key":            {mutual, false, other, paris.Reveal(), welcome},
		"certificate and wrong key":                 {mutual, false, named, forged, "Estop auth the access key is unknown"},
		"certificate that nobody asked for, no key": {strict, false, named, "", "Estop auth this server wants an access key"},
		"a server that knows no keys":               {none, false, nil, paris.Reveal(), "Estop auth the access key is unknown"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			addr := c.rig.srv.Addr()
			if c.plain {
				addr = c.rig.srv.PlainAddr()
			}
			nc, err := net.Dial("tcp", addr.String())
			if err != nil {
				t.Fatal(err)
			}
			p := newPeer(t, nc)
			if !c.plain {
				p.secure(clientTLS(ca, c.own...))
			}
			p.send(helloWith(c.token), data(1))
			p.wantPrefix(c.answer)
			if c.answer != welcome {
				p.wantEnd()
				return
			}
			p.wantPrefix("A1 ")
		})
	}
	t.Cleanup(func() { // when the cases are over
		if n := strict.store.count(); n != 1 {
			t.Errorf("%d observations stored, only one observer was let in", n)
		}
		if a, r := strict.metric("authentications_total", "key", "accepted"), strict.metric("authentications_total", "refused"); a != 1 || r != 10 {
			t.Errorf("%v accepted, %v refused", a, r)
		}
	})
}

func TestAStoreThatCannotVouchSendsTheObserverElsewhere(t *testing.T) {
	t.Parallel()
	ca, known := testenv.NewAuthority(t), newKeys()
	token := known.mint(t, schema.ScopeObserve, "paris-1")
	known.fails = 1
	r := start(t, func(o *Options) { o.TLS, o.Keys, o.RequireAuth = tlsOf(ca, false), known, true })
	p := r.dial().secure(clientTLS(ca))
	p.send(helloWith(token.Reveal()))
	p.wantPrefix("Eretry store ")
	p.wantEnd()
	p = r.dial().secure(clientTLS(ca))
	p.send(helloWith(token.Reveal()))
	p.wantPrefix("W{")
}

// listen answers pings and returns what else comes, until the end of the connection, in a bubble.
func (p *peer) listen() <-chan string {
	p.nc.SetDeadline(time.Time{})
	heard := make(chan string, 16)
	go func() {
		defer close(heard)
		for {
			content, err := p.dec.Next()
			if err != nil {
				return
			}
			if string(content) == "P" {
				go p.nc.Write(netstring.Append(nil, []byte("O"))) // which blocks while the server does not read
				continue
			}
			heard <- string(content)
		}
	}()
	return heard
}

func TestRevokedSessionsAreCutWithinAMinute(t *testing.T) {
	t.Parallel()
	for name, trouble := range map[string]func(*rig, *fakeKeys, *peer){
		"idle":               func(*rig, *fakeKeys, *peer) {},
		"one look-up fails":  func(_ *rig, f *fakeKeys, _ *peer) { f.fails = 1 },
		"the store is stuck": func(r *rig, _ *fakeKeys, p *peer) { r.store.full = make(chan struct{}); p.send(data(2), data(3)) },
		"frames on their way": func(r *rig, _ *fakeKeys, p *peer) {
			r.store.hold = true
			p.send(data(2))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ca, known := testenv.NewAuthority(t), newKeys()
				paris, lyon := known.mint(t, schema.ScopeObserve, "paris-1"), known.mint(t, schema.ScopeObserve, "paris-1")
				r, ln := startPiped(t, func(o *Options) { o.TLS, o.Keys, o.RequireAuth = tlsOf(ca, false), known, true })
				cut, stays := ln.connect(t).secure(clientTLS(ca)), ln.connect(t).secure(clientTLS(ca))
				cut.send(helloWith(paris.Reveal()))
				stays.send(helloWith(lyon.Reveal()))
				cut.wantPrefix("W{")
				stays.wantPrefix("W{")
				cut.send(data(1))
				cut.want("A1 f")
				r.store.mu.Lock()
				known.mu.Lock()
				trouble(r, known, cut)
				known.mu.Unlock()
				r.store.mu.Unlock()
				known.revoke(paris.ID())

				heard, other := cut.listen(), stays.listen()
				revoked := time.Now()
				if got := <-heard; got != "Estop auth the access key was revoked" {
					t.Error(got)
				}
				if took := time.Since(revoked); took > time.Minute {
					t.Errorf("cut after %v", took)
				}
				if got, open := <-heard; open {
					t.Errorf("after its last frame the server says %q", got)
				}
				cut.nc.Close()
				time.Sleep(time.Minute) // of the bubble's: looks at keys, pings
				select {
				case got := <-other:
					t.Errorf("the session with another key hears %q", got)
				default:
				}
				if r.metric("fatal_frames_total", "auth") != 1 {
					t.Error("not exactly one session was cut")
				}
			})
		})
	}
}

func TestASessionEndsWithItsCertificate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ca := testenv.NewAuthority(t)
		own := ca.Pair(testenv.Leaf{Name: "paris-1", Until: time.Now().Add(30 * time.Second)})
		_, ln := startPiped(t, func(o *Options) { o.TLS, o.RequireAuth = tlsOf(ca, true), true })
		p := ln.connect(t).secure(clientTLS(ca, own))
		p.send(helloWith(""))
		p.wantPrefix("W{")
		heard := p.listen()
		began := time.Now()
		if got := <-heard; got != "Eretry auth the client certificate has expired" || time.Since(began) > time.Minute {
			t.Errorf("%q after %v", got, time.Since(began))
		}
	})
}

func TestUnverifiedChainsNeedAnAuthenticatedObserver(t *testing.T) {
	t.Parallel()
	ca, known := testenv.NewAuthority(t), newKeys()
	token := known.mint(t, schema.ScopeObserve, "paris-1")
	r := start(t, func(o *Options) { o.TLS, o.Keys, o.Unverified = tlsOf(ca, false), known, []uint64{8217} })
	on := func(number int64, chain uint64, hash schema.Hash, change func([]byte) []byte) string {
		o := observationAt(number)
		o.Chain, o.Header = chain, change(o.Header)
		if !hash.IsZero() {
			o.Hash = hash
		}
		return dataOf(o, "payload")
	}
	same := func(b []byte) []byte { return b }
	claimed := schema.Hash{1, 2, 3}
	anonymous := r.dial().secure(clientTLS(ca))
	anonymous.send(helloWith(""))
	anonymous.wantPrefix("W{")
	anonymous.send(on(1, 8217, claimed, same), on(1, 8217, schema.Hash{}, same), on(1, 1, schema.Hash{}, same))
	anonymous.want("N1 auth hashes of chain 8217 cannot be verified, so its blocks are taken from authenticated observers only")
	anonymous.wantPrefix("N2 auth ")
	anonymous.want("A3 f")
	heard := func(p *peer) schema.Report {
		before := r.store.heard()
		p.send(`S{"heads":[` + headOn(8217) + `,` + headOn(1) + `],"gaps":[{"chain":8217,"from":1,"to":2},{"chain":1,"from":1,"to":2}]}`)
		eventually(t, "a report", func() bool { return r.store.heard() == before+1 })
		r.store.mu.Lock()
		defer r.store.mu.Unlock()
		return r.store.reports[before]
	}
	if got := heard(anonymous); !slices.Equal(got.Chains(), []uint64{1}) || len(got.Heads)+len(got.Gaps) != 2 {
		t.Errorf("a stranger reports %+v", got)
	}

	known1 := r.dial().secure(clientTLS(ca))
	known1.send(helloWith(token.Reveal()))
	known1.wantPrefix("W{")
	known1.send(on(7, 8217, claimed, same), on(7, 1, claimed, same), on(8, 8217, claimed, func([]byte) []byte { return []byte{0xc0} }))
	known1.want("A1 f")
	if got := heard(known1); len(got.Heads)+len(got.Gaps) != 4 {
		t.Errorf("of a known observer's report %+v is left", got)
	}
	known1.wantPrefix("N2 header the header hashes to ")
	known1.wantPrefix("N3 header ")
	offers := r.store.all()
	last := offers[len(offers)-1]
	if len(offers) != 2 || last.Key != claimed.Key() || last.Header.Number != 7 || last.Header.Time.IsZero() {
		t.Errorf("%d offers, the last %+v", len(offers), last)
	}
}

func headOn(chain uint64) string {
	return fmt.Sprintf(`{"chain":%d,"node":"geth","latest":{"number":1,"hash":"0x%064d"}}`, chain, 1)
}

// heard is how many reports came.
func (f *fakeStore) heard() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.reports)
}

// Whatever a client does with its key, no part of the secret turns up in the log, on standard output or in an answer.
func TestSecretsAreNotLogged(t *testing.T) {
	t.Parallel()
	ca, known := testenv.NewAuthority(t), newKeys()
	token := known.mint(t, schema.ScopeObserve, "paris-1")
	gone := known.mint(t, schema.ScopeObserve, "paris-1")
	known.revoke(gone.ID())
	var mu sync.Mutex
	var book, printed bytes.Buffer
	log := logrus.New()
	log.SetLevel(logrus.TraceLevel)
	log.SetOutput(lockedWriter{&mu, &book})
	r := start(t, func(o *Options) {
		o.TLS, o.PlainAddr, o.Keys, o.Log, o.Print = tlsOf(ca, false), "127.0.0.1:0", known, log, lockedWriter{&mu, &printed}
	})
	good := token.Reveal()
	hellos := []string{helloWith(good), helloWith(gone.Reveal()), helloWith(good[:len(good)-1]),
		strings.Replace(helloWith(good), "paris-1", "lyon 1", 1), strings.Replace(helloWith(good), "paris-1", "lyon-1", 1)}
	for _, form := range []string{`{"observer":"paris-1","token":["%s"]}`, `{"observer":"paris-1","token":"%s","token":"%[1]s"}`,
		`{"observer":"paris-1","token":{"%s":1}}`, `{"observer":"%s"}`, `{"observer":"paris-1","token":"%s`,
		`{"observer":"paris-1","caps":["%s "]}`, `{"observer":"paris-1","chains":["%s"]}`, `{"observer":"paris-1","token":"%s\n"}`,
		`{"observer":"paris-1","%s":"a","%[1]s":"b"}`} {
		hellos = append(hellos, "<!--firstseen/1 "+fmt.Sprintf(form, good)+"-->")
	}
	secrets := []string{good[len("fsk_")+17:], gone.Reveal()[len("fsk_")+17:]}
	for _, h := range hellos {
		for _, plain := range []bool{false, true} {
			addr := r.srv.Addr()
			if plain {
				addr = r.srv.PlainAddr()
			}
			nc, err := net.Dial("tcp", addr.String())
			if err != nil {
				t.Fatal(err)
			}
			p := newPeer(t, nc)
			if !plain {
				p.secure(clientTLS(ca))
			}
			p.send(h)
			if answer := p.next(); strings.Contains(answer, secrets[0][:20]) || strings.Contains(answer, secrets[1][:20]) {
				t.Errorf("%s is answered %s", h, answer)
			}
			nc.Close()
		}
	}
	r.stop()
	<-r.ended
	mu.Lock()
	defer mu.Unlock()
	for _, s := range secrets {
		if strings.Contains(book.String(), s[:20]) || strings.Contains(printed.String(), s[:20]) {
			t.Errorf("a secret is in the log:\n%s\n%s", book.String(), printed.String())
		}
	}
	if !strings.Contains(book.String(), token.ID()) {
		t.Error("the log does not name the key that was refused")
	}
}

type lockedWriter struct {
	mu *sync.Mutex
	w  *bytes.Buffer
}

func (l lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}
