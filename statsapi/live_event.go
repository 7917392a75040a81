package statsapi

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"time"

	"github.com/firstseen/firstseen/internal/feed"
)

// Event is a change of state as live routes tell it: one row of the feed with what it is about. Members that mean
// nothing for its kind are left out.
type Event struct {
	Type   string  `json:"type" enum:"event"`
	Cursor string  `json:"cursor" doc:"The place right behind this event."`
	Seq    Number  `json:"seq" doc:"In the feed, from 1, without a gap."`
	Kind   string  `json:"kind" enum:"block,status,bare,gap,alarm"`
	Effect string  `json:"effect,omitempty" enum:"apply,undo" doc:"What it does to the chain's branch: apply puts the block on it, undo takes it off."`
	Chain  Number  `json:"chain" doc:"Chain id; 0 for a bare payload."`
	Number *Number `json:"number,omitempty" doc:"Height; of a gap the first."`
	To     *Number `json:"to,omitempty" doc:"The last height of a gap."`
	Hash   string  `json:"hash,omitempty" doc:"Of the block; of a bare payload its SHA-256."`
	Parent string  `json:"parent,omitempty"`
	Status string  `json:"status,omitempty" enum:"canonical,non_canonical,safe,finalized,orphaned"`
	Was    string  `json:"was,omitempty" doc:"The status before."`
	Time   *Time   `json:"time,omitempty" doc:"The block's own timestamp."`
	Note   string  `json:"note,omitempty" doc:"Why, for an alarm."`
	At     Time    `json:"at" doc:"When this was committed, by the server's clock."`

	Observer   string `json:"observer,omitempty" doc:"Who saw the block first."`
	Node       string `json:"node,omitempty" doc:"Through which node."`
	Origin     string `json:"origin,omitempty" enum:"head,backfill"`
	Server     string `json:"server,omitempty" doc:"The server that received it first."`
	ObservedAt *Time  `json:"observed_at,omitempty" doc:"By the observer's clock."`
	ReceivedAt *Time  `json:"received_at,omitempty" doc:"By the server's clock."`
}

// Gap says that a part of the feed can no longer be had. What comes next follows on its cursor.
type Gap struct {
	Type   string `json:"type" enum:"gap"`
	Cursor string `json:"cursor"`
	From   Number `json:"from_seq,omitempty" doc:"The first seq that is missing."`
	To     Number `json:"to_seq,omitempty" doc:"The last; nothing where nobody knows."`
	Reason string `json:"reason"`
}

// The encodings that events carry.
const (
	formJSON   = iota
	formFrame  // the JSON as a WebSocket message
	formStream // as a server-sent event
	formHeader // a block's header as JSON-RPC shows it
	formStored // a block as the event store shows it
)

// forAll is a context for asking the store on behalf of all who want an encoding: whoever happens to make it may leave
// meanwhile. The others wait for it, so it has an end.
func forAll(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
}

func eventOf(e *feed.Event) Event {
	out := Event{
		Type: "event", Cursor: e.Cursor().String(), Seq: Number(e.Seq), Kind: string(e.Kind), Effect: string(e.Effect),
		Chain: Number(e.Chain), Number: (*Number)(e.Number), To: (*Number)(e.To), Status: string(e.Status),
		Was: string(e.Was), Note: e.Note, At: Time{e.At},
	}
	if e.Key != "" {
		out.Hash = "0x" + string(e.Key)
	}
	if r := e.Record; r != nil {
		out.Server, out.ReceivedAt = r.Server, &Time{r.ReceivedAt}
		if r.Header != nil {
			out.Parent, out.Time = r.Header.Parent.String(), &Time{r.Header.Time}
			out.Observer, out.Node, out.Origin = r.Observer, r.Node, string(r.Origin)
		}
		if r.ObservedAt != nil {
			out.ObservedAt = &Time{*r.ObservedAt}
		}
	}
	return out
}

func gapOf(e *feed.Event) Gap {
	return Gap{
		Type: "gap", Cursor: e.Cursor().String(), From: Number(e.Missing.From), To: Number(e.Missing.To),
		Reason: e.Missing.Reason,
	}
}

// eventJSON encodes an event for all who get it.
func eventJSON(e *feed.Event) ([]byte, error) {
	return e.Form(formJSON, func(e *feed.Event) ([]byte, error) {
		var body any
		if e.Missing != nil {
			body = gapOf(e)
		} else {
			body = eventOf(e)
		}
		text, err := json.Marshal(body)
		if err != nil {
			return nil, fmt.Errorf("encode event %d: %w", e.Seq, err)
		}
		return text, nil
	})
}

// eventFrame is the JSON as a WebSocket message.
func eventFrame(e *feed.Event) ([]byte, error) {
	return e.Form(formFrame, func(e *feed.Event) ([]byte, error) {
		text, err := eventJSON(e)
		if err != nil {
			return nil, err
		}
		return append(appendTextHeader(make([]byte, 0, len(text)+4), len(text)), text...), nil
	})
}

// eventStream is a server-sent event (HTML Living Standard, section 9.2.6).
func eventStream(e *feed.Event) ([]byte, error) {
	return e.Form(formStream, func(e *feed.Event) ([]byte, error) {
		text, err := eventJSON(e)
		if err != nil {
			return nil, err
		}
		name := ""
		if e.Missing != nil {
			name = "event: gap\n"
		}
		return fmt.Appendf(nil, "id: %s\n%sdata: %s\n\n", e.Cursor(), name, text), nil
	})
}

// appendTextHeader begins an unmasked, unfragmented text message (RFC 6455, section 5.2). Of a server it is the same for
// all clients: that is why a message can be made once. There is no extension to set a reserved bit.
func appendTextHeader(dst []byte, size int) []byte {
	const finText = 0x81
	switch {
	case size < 126:
		return append(dst, finText, byte(size))
	case size < 1<<16:
		return binary.BigEndian.AppendUint16(append(dst, finText, 126), uint16(size))
	default:
		return binary.BigEndian.AppendUint64(append(dst, finText, 127), uint64(size))
	}
}
