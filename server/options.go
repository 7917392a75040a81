package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"github.com/firstseen/firstseen/internal/quiet"
	"github.com/firstseen/firstseen/internal/wire"
	"github.com/firstseen/firstseen/schema"
)

// What suits a process that mainly runs a Server, for runtime/debug: garbage may grow to four times what lives, which is
// little, unless that is much. Measured: a quarter less processor time for an offer, 50 to 90 MiB more memory.
const (
	GCPercent   = 400
	MemoryLimit = 1 << 30 // bytes; from there on garbage is collected as often as needed
)

// Store is where observations go.
type Store interface {
	// Offer queues one offer and blocks while the queue is full. done is called exactly once, from another goroutine,
	// after the commit that settles the offer; when Offer returns an error it is never called.
	Offer(ctx context.Context, o *schema.Offer, done func(schema.Settlement)) error
	// Report takes what an observer knows besides blocks.
	Report(ctx context.Context, observer string, r schema.Report) error
	// Positions tells how far the given chains are stored without a gap, leaving out those it does not know.
	Positions(ctx context.Context, chains []uint64) ([]schema.Position, error)
}

// Presence is told how many connections are open, at each change. It must not block.
type Presence interface {
	Set(count int)
}

// Options says how a server runs. Addr, Name and Store are needed; the zero value of the rest means the default.
type Options struct {
	Addr     string // host:port to listen on; port 0 takes a free one, also below
	Name     string // of this server, in records and to observers: 1 to 64 of A-Z a-z 0-9 . _ -
	Store    Store
	Presence Presence  // nil: nobody is told
	Print    io.Writer // gets one DATA line per payload received; nil: none

	// TLS makes Addr speak TLS and nothing else. It must ask for client certificates, and verify them, if they are to
	// prove names.
	TLS *tls.Config
	// PlainAddr is a further port, without TLS, for clients that do not know it. Only with TLS.
	PlainAddr string

	Keys        Keys // access keys; nil: there are none
	RequireAuth bool // relay mode only for observers that prove their name, by an access key or a client certificate

	NoBare    bool           // nobody may speak bare mode
	BareFrom  []netip.Prefix // who may, if not all
	ProxyFrom []netip.Prefix // proxies: their connections begin with a PROXY header of version 2, which is believed

	// Unverified are chains whose headers cannot be hashed here. Hash, number, parent and time are the observer's claim,
	// so only observers that have proved their name may bring their blocks.
	Unverified []uint64

	// MaxConns is how many relay connections are served at once, 10,000 by default; a further one is told to try
	// elsewhere. Beyond MaxConns and an eighth of it, of any mode, connections wait in the kernel's queue.
	MaxConns int
	// AcceptRate is how many connections a second are accepted, 2,000 by default, as many at once; further ones wait in
	// the kernel's queue. Negative: no limit.
	AcceptRate float64
	// FirstFrame is how long a connection may take until its first frame begins, 5 minutes by default.
	FirstFrame time.Duration
	// Drain is how long relay clients are given to leave when the server stops, 10 s by default.
	Drain time.Duration
	// BareDrain is how long bare connections are read on when the server stops, 10 s by default.
	BareDrain time.Duration

	Now        func() time.Time      // stamps what is received; time.Now by default
	Log        logrus.FieldLogger    // nil: silence
	Registerer prometheus.Registerer // nil: no metrics
}

// Times and sizes that are this server's own, not the protocol's.
const (
	positionsTimeout = wire.WelcomeTimeout - time.Second // leaves a second for the way
	reportTimeout    = 5 * time.Second
	writeTimeout     = 10 * time.Second
	settleWait       = 10 * time.Second // for outstanding frames, when a client has left
	lingerTime       = 2 * time.Second  // of reading on behind a half-close, relay mode
	bareLingerTime   = 10 * time.Second // of reading on behind a bad frame, bare mode
	lingerBytes      = 64 << 20         // of reading on, at most, in either mode
	crowdedFirst     = 10 * time.Second // FirstFrame while there are more than MaxConns connections
	quietAfter       = time.Second      // without a word, until a connection is left to a goroutine that only waits
	largeFrame       = 32 << 10         // bytes from which on a frame waits for a place
	mostConns        = 1 << 20          // more than any machine holds
	handshakeTime    = 10 * time.Second // for TLS
	proxyTime        = 5 * time.Second  // for a PROXY header
	proxyMost        = 4 << 10          // bytes of one, behind its first sixteen
	keysEvery        = 20 * time.Second // between looks at the keys of open sessions
	keysWithin       = 5 * time.Second  // for one look
	stopGrace        = 5 * time.Second  // from the last drain deadline until sockets are closed by force
)

func (o Options) withDefaults() (Options, error) {
	switch {
	case o.Addr == "":
		return o, errors.New("server: Addr is missing: give host:port to listen on")
	case !schema.ValidName(o.Name):
		return o, errors.New("server: Name must be 1 to 64 of A-Z a-z 0-9 . _ -")
	case o.Store == nil:
		return o, errors.New("server: Store is missing")
	case o.MaxConns < 0 || o.FirstFrame < 0 || o.Drain < 0 || o.BareDrain < 0:
		return o, errors.New("server: MaxConns, FirstFrame, Drain and BareDrain must not be negative")
	case o.PlainAddr != "" && o.TLS == nil:
		return o, errors.New("server: PlainAddr is for a port beside one with TLS: give TLS, or use Addr")
	case o.MaxConns > mostConns:
		return o, fmt.Errorf("server: MaxConns must be at most %d", mostConns)
	}
	if o.MaxConns == 0 {
		o.MaxConns = 10_000
	}
	if o.AcceptRate == 0 {
		o.AcceptRate = 2000
	}
	o.FirstFrame = either(o.FirstFrame, 5*time.Minute)
	o.Drain = either(o.Drain, 10*time.Second)
	o.BareDrain = either(o.BareDrain, 10*time.Second)
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Presence == nil {
		o.Presence = unseen{}
	}
	o.Log = quiet.Log(o.Log)
	return o, nil
}

// doors is how many ports there are. Each takes a slot before it accepts.
func (o Options) doors() int {
	if o.PlainAddr == "" {
		return 1
	}
	return 2
}

func either(d, def time.Duration) time.Duration {
	if d == 0 {
		return def
	}
	return d
}

// unseen is the presence of a server whose connections nobody counts.
type unseen struct{}

func (unseen) Set(int) {}
