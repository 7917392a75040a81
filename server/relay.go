package server

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/firstseen/firstseen/internal/chain"
	"github.com/firstseen/firstseen/internal/wire"
	"github.com/firstseen/firstseen/schema"
)

// relay is a connection in relay mode.
type relay struct {
	*conn
	out     outbox
	hello   wire.Hello
	session string

	identity identity        // how the observer proved its name; set before the W
	ctx      context.Context // ends with the time to leave; frames come on many goroutines
	cutFor   *wire.Fatal     // why it was cut, if it was; guarded by conn.mu

	reportsFail bool // the last report was not taken; so that only changes are logged
}

func (r *relay) log() logrus.FieldLogger {
	return r.conn.log().WithFields(logrus.Fields{"observer": r.hello.Observer, "session": r.session})
}

// errBye is the orderly end: the client has nothing more to say.
var errBye = errors.New("bye")

// newRelay makes a session of a connection whose first frame is a HELLO. ctx ends when the client's time to leave is over.
func newRelay(ctx context.Context, c *conn) *relay {
	r := &relay{conn: c, session: newSession(), ctx: ctx}
	r.out.nc = c.nc
	r.out.stop = func() { c.in.stop(time.Now()) }
	c.srv.metrics.modes.WithLabelValues("relay").Inc()
	return r
}

// open answers the HELLO.
func (r *relay) open(first []byte) error {
	crowd := r.srv.relays.Add(1)
	err := r.welcome(r.ctx, first, crowd)
	if err == nil {
		r.in.patience(wire.DeadAfter)
	}
	return err
}

// rest implements mode.
func (r *relay) rest() { r.out.rest() }

// end implements mode: it closes the session without losing what was written.
func (r *relay) end(err error) {
	r.srv.relays.Add(-1) // before the farewell: those sent away do not stand in the way of others
	r.finish(err)
	r.srv.metrics.modes.WithLabelValues("relay").Dec()
}

func newSession() string {
	var b [8]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// welcome answers a HELLO with W, or returns the fatal frame to answer instead.
func (r *relay) welcome(ctx context.Context, first []byte, crowd int64) error {
	hello, err := wire.ParseHello(first)
	if err != nil {
		r.srv.metrics.refused.WithLabelValues("hello").Inc()
		return fatalOf(err)
	}
	r.hello = hello
	if crowd > int64(r.srv.opt.MaxConns) {
		return &wire.Fatal{Retry: true, Code: wire.CodeBusy, Text: "too many connections"}
	}
	ctx, cancel := context.WithTimeout(ctx, positionsTimeout)
	defer cancel()
	if err := r.authenticate(ctx); err != nil {
		return err
	}
	positions, err := r.srv.opt.Store.Positions(ctx, hello.Chains)
	if err != nil {
		r.log().WithError(err).Warn("positions unknown, observer sent away")
		return &wire.Fatal{Retry: true, Code: wire.CodeStore, Text: "the store does not answer"}
	}
	content, err := wire.AppendWelcome(nil, r.welcomeOf(positions))
	if err != nil {
		r.log().WithError(err).Error("positions make no sense, observer sent away")
		return &wire.Fatal{Retry: true, Code: wire.CodeStore, Text: "the store does not know its positions"}
	}
	if !r.becomeRelay(r, content) {
		return &wire.Fatal{Retry: true, Code: wire.CodeBusy, Text: "shutting down"}
	}
	r.log().Info("observer connected")
	return nil
}

func (r *relay) welcomeOf(positions []schema.Position) wire.Welcome {
	return wire.Welcome{
		Server:       r.srv.opt.Name,
		Session:      r.session,
		WindowFrames: wire.WindowFrames,
		WindowBytes:  wire.WindowBytes,
		MaxFrame:     wire.MaxFrame,
		PingMillis:   int(wire.PingAfter.Milliseconds()),
		DeadMillis:   int(wire.DeadAfter.Milliseconds()),
		Chains:       positions,
		Caps:         r.caps(),
	}
}

// fatalOf turns a broken rule into the frame that says so. Breaking it again would not help, hence stop.
func fatalOf(err error) *wire.Fatal {
	var broken *wire.Error
	if errors.As(err, &broken) {
		return &wire.Fatal{Code: broken.Code, Text: broken.Text}
	}
	return &wire.Fatal{Code: wire.CodeProtocol, Text: err.Error()}
}

// frame implements mode. Its error is errBye or a *wire.Fatal.
func (r *relay) frame(content []byte) error {
	kind, ok := kinds[wire.Type(content)]
	if !ok {
		kind = "unknown"
	}
	r.srv.metrics.frame("relay", kind, len(content))
	switch wire.Type(content) {
	case wire.TypeData:
		return r.data(content)
	case wire.TypeStatus:
		return r.status(r.ctx, content)
	case wire.TypePong:
		return asFatal(wire.ParseBare(content, wire.TypePong))
	case wire.TypeBye:
		if err := wire.ParseBare(content, wire.TypeBye); err != nil {
			return fatalOf(err)
		}
		return errBye
	}
	if wire.Skippable(content) {
		return nil
	}
	return &wire.Fatal{Code: wire.CodeProtocol, Text: "frame is empty or of an unknown type"}
}

// kinds names the types of frames in metrics.
var kinds = map[byte]string{
	wire.TypeData: "data", wire.TypeStatus: "status", wire.TypePong: "pong", wire.TypeBye: "bye",
}

func asFatal(err error) error {
	if err != nil {
		return fatalOf(err)
	}
	return nil
}

// data takes one observation: into the window, through the checks, to the store. What fails a check is refused, and the
// connection goes on.
func (r *relay) data(content []byte) error {
	o, payload, err := wire.ParseData(content)
	if o.Raw != nil && !r.takesRaw() {
		// It is wrong about every frame that will come: refusing one after the other would cost it all those blocks.
		r.srv.metrics.refused.WithLabelValues("raw_unasked").Inc()
		return &wire.Fatal{Code: wire.CodeProtocol, Text: "a raw part, but the cap raw was not agreed on"}
	}
	n, ok := r.out.admit(len(content))
	if !ok {
		r.srv.metrics.refused.WithLabelValues("window").Inc()
		return &wire.Fatal{Code: wire.CodeProtocol, Text: "window exceeded"}
	}
	var offer *schema.Offer
	if err == nil {
		offer, err = r.offerOf(&o, payload)
	}
	switch {
	case errors.Is(err, context.Canceled): // while it waited to be verified
		r.out.lose()
		return &wire.Fatal{Retry: true, Code: wire.CodeBusy, Text: "shutting down"}
	case err != nil:
		r.refuse(n, len(content), err)
		return nil
	}
	r.srv.print.line(r.peer, offer.Payload)
	settled := r.srv.metrics.offered("relay", len(content))
	err = r.srv.opt.Store.Offer(reading{r.in.halted()}, offer, func(s schema.Settlement) {
		settled(s.Outcome)
		r.settle(n, len(content), offer, s)
	})
	if err != nil {
		settled(schema.Unsettled)
		r.out.lose()
		r.log().WithError(err).Warn("observation not stored, observer sent away")
		return &wire.Fatal{Retry: true, Code: wire.CodeStore, Text: "the store takes nothing now"}
	}
	return nil
}

// settle passes the store's answer on to the client.
func (r *relay) settle(n uint64, size int, o *schema.Offer, s schema.Settlement) {
	switch s.Outcome {
	case schema.Unsettled:
		if r.out.lose() {
			r.log().WithField("reason", s.Reason).Warn("the store left observations unsettled, observer sent away")
		}
	case schema.Refused:
		r.srv.refuse(Refusal{
			Mode: "relay", Remote: r.peer.String(), Observer: r.hello.Observer, Frame: n, Chain: o.Chain, Key: o.Key, Bytes: size,
			Code: string(wire.CodeData), Reason: s.Reason,
		})
		r.out.settle(n, s.Outcome, &wire.Refusal{N: n, Code: wire.CodeData, Text: s.Reason})
	default:
		r.out.settle(n, s.Outcome, nil)
	}
}

// refuse settles a frame that failed a check, without the store.
func (r *relay) refuse(n uint64, size int, err error) {
	broken := fatalOf(err)
	r.srv.refuse(Refusal{
		Mode: "relay", Remote: r.peer.String(), Observer: r.hello.Observer, Frame: n, Bytes: size,
		Code: string(broken.Code), Reason: broken.Text,
	})
	r.out.settle(n, schema.Refused, &wire.Refusal{N: n, Code: broken.Code, Text: broken.Text})
}

// offerOf checks an observation and makes an offer of it that does not share the frame's memory. The key, number, parent
// and time come from the header, which is hashed again: nobody can occupy a block's key without having its header.
func (r *relay) offerOf(o *schema.Observation, payload []byte) (*schema.Offer, error) {
	header, err := r.headerOf(o)
	if err != nil {
		return nil, err
	}
	if err := r.checkRaw(o); err != nil {
		return nil, err
	}
	return &schema.Offer{
		Chain:        o.Chain,
		Key:          header.Hash.Key(),
		Header:       &header,
		HeaderRLP:    o.Header,
		ContentType:  o.ContentType,
		Payload:      bytes.Clone(payload),
		Observer:     r.hello.Observer,
		Node:         o.Node,
		Origin:       o.Origin,
		Server:       r.srv.opt.Name,
		Remote:       r.remote(),
		ObservedAt:   o.ObservedAt,
		ReceivedAt:   r.srv.opt.Now().UTC(),
		Transactions: o.Transactions,
		Raw:          bytes.Clone(o.Raw),
	}, nil
}

// excepted tells whether hashes of a chain are believed.
func (r *relay) excepted(chain uint64) bool { return slices.Contains(r.srv.opt.Unverified, chain) }

// headerOf reads an observation's header and holds it against the hash. Of a chain that is excepted from that, the
// hash is believed if the observer has proved who it is: somebody has to answer for it.
func (r *relay) headerOf(o *schema.Observation) (schema.Header, error) {
	if r.excepted(o.Chain) {
		return r.believe(o)
	}
	header, err := r.srv.headers.decode(o.Header, o.Hash)
	if err != nil {
		return schema.Header{}, &wire.Error{Code: wire.CodeHeader, Text: err.Error()}
	}
	if header.Hash != o.Hash {
		return schema.Header{}, &wire.Error{Code: wire.CodeHeader, Text: "the header hashes to " + header.Hash.String()}
	}
	return header, nil
}

func (r *relay) believe(o *schema.Observation) (schema.Header, error) {
	if !r.identity.proved() {
		return schema.Header{}, &wire.Error{Code: wire.CodeAuth, Text: fmt.Sprintf(
			"hashes of chain %d cannot be verified, so its blocks are taken from authenticated observers only", o.Chain)}
	}
	header, err := chain.ReadHeader(o.Header, o.Hash)
	if err != nil {
		return schema.Header{}, &wire.Error{Code: wire.CodeHeader, Text: err.Error()}
	}
	return header, nil
}

// status hands a report to the store. That the store does not take it is no reason to end the link: the next one says
// the same and more.
func (r *relay) status(ctx context.Context, content []byte) error {
	report, err := wire.ParseStatus(content)
	if err != nil {
		return fatalOf(err)
	}
	r.disbelieve(&report)
	ctx, cancel := context.WithTimeout(ctx, reportTimeout)
	defer cancel()
	err = r.srv.opt.Store.Report(ctx, r.hello.Observer, report)
	switch {
	case err != nil && !r.reportsFail:
		r.log().WithError(err).Warn("report not stored; further failures are not logged")
	case err == nil && r.reportsFail:
		r.log().Info("reports are stored again")
	}
	r.reportsFail = err != nil
	return nil
}

// disbelieve takes out what nobody answers for: of a chain whose hashes are believed, who has not proved their name has no
// more say in the statuses of blocks than they may bring some.
func (r *relay) disbelieve(report *schema.Report) {
	if r.identity.proved() {
		return
	}
	report.Heads = slices.DeleteFunc(report.Heads, func(h schema.Head) bool { return r.excepted(h.Chain) })
	report.Gaps = slices.DeleteFunc(report.Gaps, func(g schema.Gap) bool { return r.excepted(g.Chain) })
}

// finish ends the connection: what is outstanding is waited for, then come the last acks and refusals and the fatal
// frame if there is one, then a half-close and some reading on, since closing with unread input would destroy what was
// just written.
func (r *relay) finish(err error) {
	fatal := r.fatal(err)
	if why := r.out.settled(settleWait); fatal == nil {
		fatal = why
	}
	if why := r.wasCut(); why != nil {
		fatal = why
	}
	log := r.log()
	if fatal != nil {
		r.srv.metrics.fatals.WithLabelValues(string(fatal.Code)).Inc()
		log = log.WithField("reason", string(fatal.Code)+": "+fatal.Text)
	}
	if r.out.close(fatal) {
		r.linger(lingerTime, lingerBytes)
	}
	log.Info("observer disconnected")
}

// fatal returns the frame that an end of reading calls for, nil for an orderly one.
func (r *relay) fatal(err error) *wire.Fatal {
	var fatal *wire.Fatal
	if errors.As(err, &fatal) {
		return fatal
	}
	if errors.Is(err, errBye) {
		return nil
	}
	why := r.why(err)
	switch why {
	case whyTooLarge, whySyntax, whyTimeout, whyTruncated:
		r.srv.metrics.refused.WithLabelValues(why).Inc()
	case whyBroken:
		r.out.fail() // nobody is left to be told
	}
	switch why {
	case whyStopped:
		return r.out.overdue()
	case whyTooLarge:
		return &wire.Fatal{Code: wire.CodeSize, Text: err.Error()}
	case whySyntax:
		return &wire.Fatal{Code: wire.CodeProtocol, Text: err.Error()}
	case whySilence:
		return &wire.Fatal{Retry: true, Code: wire.CodeTimeout, Text: "no word for " + wire.DeadAfter.String()}
	case whyTimeout:
		return &wire.Fatal{Retry: true, Code: wire.CodeTimeout, Text: "frame not complete in time"}
	}
	return nil
}
