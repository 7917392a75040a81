package gateway

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"github.com/firstseen/firstseen/internal/quiet"
)

// Options configure a Gateway. Pool is required, and at least one of the three addresses.
type Options struct {
	Listen    string // host:port for plain HTTP; empty: none; port 0 chooses a free one
	TLSListen string // host:port for HTTPS, and WebSocket over TLS; needs Cert and Key
	WSListen  string // host:port for WebSocket

	Pool  Pool
	Allow []string // methods beside the usual ones; nothing is known of them, so they are asked once

	Cert, Key string // PEM files of the certificate chain and its key; read again when they change
	ClientCA  string // PEM file; when given, clients must show a certificate that it vouches for

	Keys       string         // file of API keys, see readKeys; read again when it changes
	RequireKey bool           // refuse who has none
	Rate       float64        // calls a second for one caller; 0: no limit
	Burst      int            // calls at once within Rate; default twice the rate, and at least a batch
	Trusted    []netip.Prefix // proxies whose X-Forwarded-For is believed; none by default
	Origins    []string       // hosts whose pages may open WebSockets, as patterns of path.Match; default its own

	MaxBody   int64 // bytes of a request; default 1 MiB
	MaxAnswer int64 // bytes of the nodes' answers to one request, a batch included; default 32 MiB
	MaxLarge  int   // requests at once with answers above 1 MiB, further ones wait; default 8
	MaxBatch  int   // requests in a batch; default 100
	MaxConns  int   // open connections on each port, further ones wait to be accepted; default 4096

	ReadTimeout    time.Duration // for a request to come whole; default 15 s
	Attempts       int           // times that nodes are asked for one read; default 8
	Timeout        time.Duration // for one call, all attempts included; default 30 s
	AttemptTimeout time.Duration // for one attempt; default 10 s
	HedgeAfter     time.Duration // without an answer to a read, a second node is asked as well; default 500 ms
	HeightWait     time.Duration // for a node to reach the height a request needs; default 2 s
	Session        time.Duration // for which a caller's head does not go back; default 60 s

	Reload          time.Duration // between looks at the files of certificate and keys; default 10 s
	DrainDelay      time.Duration // between failing Ready and closing the ports, for balancers to notice; default none
	ShutdownTimeout time.Duration // for requests in flight at the end; default 8 s

	Log        logrus.FieldLogger    // nil discards
	Registerer prometheus.Registerer // where to register metrics; nil: none
	Now        func() time.Time      // default time.Now
	Rand       func(n int) int       // in [0, n); default math/rand/v2's IntN
}

// withDefaults checks the options and fills in what was left out.
func (o Options) withDefaults() (Options, error) {
	if err := o.validate(); err != nil {
		return o, fmt.Errorf("gateway: %w", err)
	}
	o.MaxBody = cmp.Or(o.MaxBody, 1<<20)
	o.MaxAnswer = cmp.Or(o.MaxAnswer, 32<<20)
	o.MaxLarge = cmp.Or(o.MaxLarge, 8)
	o.MaxBatch = cmp.Or(o.MaxBatch, 100)
	o.MaxConns = cmp.Or(o.MaxConns, 4096)
	o.Burst = cmp.Or(o.Burst, max(int(2*o.Rate), o.MaxBatch))
	o.ReadTimeout = cmp.Or(o.ReadTimeout, 15*time.Second)
	o.Attempts = cmp.Or(o.Attempts, 8)
	o.Timeout = cmp.Or(o.Timeout, 30*time.Second)
	o.AttemptTimeout = cmp.Or(o.AttemptTimeout, 10*time.Second)
	o.HedgeAfter = cmp.Or(o.HedgeAfter, 500*time.Millisecond)
	o.HeightWait = cmp.Or(o.HeightWait, 2*time.Second)
	o.Session = cmp.Or(o.Session, time.Minute)
	o.Reload = cmp.Or(o.Reload, 10*time.Second)
	o.ShutdownTimeout = cmp.Or(o.ShutdownTimeout, 8*time.Second)
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Rand == nil {
		o.Rand = rand.IntN
	}
	o.Log = quiet.Log(o.Log)
	return o, nil
}

func (o Options) validate() error {
	switch {
	case o.Pool == nil:
		return errors.New("no pool of nodes")
	case o.Listen == "" && o.TLSListen == "" && o.WSListen == "":
		return errors.New("no address to listen on")
	case o.TLSListen != "" && (o.Cert == "" || o.Key == ""):
		return errors.New("TLS needs a certificate and its key")
	case o.ClientCA != "" && o.TLSListen == "":
		return errors.New("client certificates need TLS")
	case o.RequireKey && o.Keys == "":
		return errors.New("API keys are required, but there is no file of them")
	case min(o.MaxBody, o.MaxAnswer, int64(min(o.MaxLarge, o.MaxBatch, o.MaxConns, o.Attempts, o.Burst))) < 0 || o.Rate < 0:
		return errors.New("limits must not be negative")
	case min(o.ReadTimeout, o.Timeout, o.AttemptTimeout, o.HedgeAfter, o.HeightWait, o.Session, o.Reload, o.DrainDelay,
		o.ShutdownTimeout) < 0:
		return errors.New("times must not be negative")
	}
	return nil
}
