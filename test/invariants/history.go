package invariants

import (
	"fmt"
	"slices"

	"github.com/firstseen/firstseen/internal/wire"
	"github.com/firstseen/firstseen/schema"
)

// refused is how an offer that got N is written down among the flags of A.
const refused = 'n'

// Exchange is what passed on one connection in relay mode. Data frame i of it, counted from 1, offered Offers[i-1] and
// had the outcome Outcomes[i-1], as far as there was one.
type Exchange struct {
	Observer string
	Server   string // empty until the welcome
	Offers   []schema.Key
	Outcomes []byte       // wire.FlagFirst, wire.FlagDuplicate or refused
	Early    []schema.Key // acked when the database did not have them
	Broken   []string     // rules of the protocol that either side broke
}

// unknown lists the offers without an outcome.
func (e *Exchange) unknown() []schema.Key { return e.Offers[len(e.Outcomes):] }

func (e *Exchange) clone() Exchange {
	c := *e
	c.Offers, c.Outcomes = slices.Clone(e.Offers), slices.Clone(e.Outcomes)
	c.Early, c.Broken = slices.Clone(e.Early), slices.Clone(e.Broken)
	return c
}

func (e *Exchange) breaks(format string, args ...any) {
	e.Broken = append(e.Broken, fmt.Sprintf(format, args...))
}

// sent notes a frame of the observer and returns the block that it offers, if it does.
func (e *Exchange) sent(content []byte) (keys []schema.Key) {
	if e.Observer == "" {
		hello, err := wire.ParseHello(content)
		if err != nil {
			e.breaks("first frame: %v", err)
		}
		e.Observer = hello.Observer
		return nil
	}
	if wire.Type(content) != wire.TypeData {
		return nil
	}
	if e.Server == "" {
		e.breaks("data before the welcome")
	}
	o, _, err := wire.ParseData(content)
	if err != nil {
		e.breaks("data frame %d: %v", len(e.Offers)+1, err)
	}
	e.Offers = append(e.Offers, o.Hash.Key())
	return []schema.Key{o.Hash.Key()}
}

// answered notes a frame of the server and returns the blocks that it settles, if it does, and whether they are acked.
func (e *Exchange) answered(content []byte) (keys []schema.Key, acked bool) {
	mark := len(e.Outcomes)
	switch wire.Type(content) {
	case wire.TypeWelcome:
		w, err := wire.ParseWelcome(content)
		if err != nil {
			e.breaks("welcome: %v", err)
		}
		e.Server = w.Server
	case wire.TypeAck:
		n, flags, err := wire.ParseAck(content)
		switch {
		case err != nil:
			e.breaks("ack: %v", err)
		case n != uint64(mark+len(flags)) || n > uint64(len(e.Offers)):
			e.breaks("ack of %d frames up to %d, where %d of %d are settled", len(flags), n, mark, len(e.Offers))
		default:
			e.Outcomes = append(e.Outcomes, flags...)
			return e.Offers[mark:n], true
		}
	case wire.TypeRefusal:
		r, err := wire.ParseRefusal(content)
		if err != nil || r.N != uint64(mark)+1 || mark == len(e.Offers) {
			e.breaks("refusal of frame %d, where %d of %d are settled: %v", r.N, mark, len(e.Offers), err)
			return nil, false
		}
		e.Outcomes = append(e.Outcomes, refused)
		return e.Offers[mark : mark+1], false
	}
	return nil, false
}
