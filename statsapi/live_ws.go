package statsapi

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"

	"github.com/firstseen/firstseen/internal/feed"
	"github.com/firstseen/firstseen/schema"
)

// request is a client's message on /v1/ws.
type request struct {
	Op string `json:"op"` // subscribe, unsubscribe
	ID string `json:"id"` // chosen by the client; comes back with everything of the subscription
	wanted
}

// response is what the connection itself says, besides events and gaps.
type response struct {
	Type   string `json:"type"` // subscribed, unsubscribed, cursor, error
	ID     string `json:"id,omitempty"`
	Cursor string `json:"cursor,omitempty"`
	Detail string `json:"detail,omitempty"`
}

// serveSocket answers /v1/ws. Parameters in the URL are a first subscription, without an id.
func (l *live) serveSocket(w http.ResponseWriter, r *http.Request, s *slot) {
	query := r.URL.Query()
	first, err := wantedOf(query)
	if err == nil {
		_, err = first.filter()
	}
	if err == nil {
		_, err = first.place()
	}
	if err != nil {
		s.release()
		writeError(w, err)
		return
	}
	c := l.open(w, r, s)
	if c == nil {
		return
	}
	c.start(func() {
		if asks(query) {
			c.subscribe(request{Op: "subscribe", wanted: first})
		}
	}, c.obey)
}

// asks tells whether a URL says what to subscribe to.
func asks(q url.Values) bool {
	for _, name := range []string{"chain", "kind", "status", "address", "delivery", "from"} {
		if q.Has(name) {
			return true
		}
	}
	return false
}

// obey does what one message says. What is wrong with it is answered; the connection goes on.
func (c *socket) obey(text []byte) {
	var q request
	if err := strictly(text, &q); err != nil {
		c.complain(q.ID, "not a message this route knows: "+clip(err.Error()))
		return
	}
	if len(q.ID) > 0 && !schema.ValidName(q.ID) {
		c.complain("", "id must be 1 to 64 of A-Z a-z 0-9 . _ -")
		return
	}
	switch q.Op {
	case "subscribe":
		c.subscribe(q)
	case "unsubscribe":
		if !c.leave(q.ID) {
			c.complain(q.ID, "there is no such subscription")
			return
		}
		_ = c.tell(response{Type: "unsubscribed", ID: q.ID})
	default:
		c.complain(q.ID, "op must be subscribe or unsubscribe")
	}
}

func (c *socket) complain(id, detail string) {
	_ = c.tell(response{Type: "error", ID: id, Detail: detail})
}

func (c *socket) subscribe(q request) {
	filter, err := q.filter()
	if err != nil {
		c.complain(q.ID, explain(err))
		return
	}
	from, err := q.place()
	if err != nil {
		c.complain(q.ID, explain(err))
		return
	}
	switch n, taken := c.count(q.ID); {
	case taken:
		c.complain(q.ID, "there is a subscription of this id already")
		return
	case n >= c.live.opts.Subscriptions:
		c.complain(q.ID, fmt.Sprintf("a connection may have %d subscriptions", c.live.opts.Subscriptions))
		return
	}
	err = c.follow(q.ID, filter, from, func(s *feed.Subscription) error {
		return c.tell(response{Type: "subscribed", ID: q.ID, Cursor: s.Cursor().String()})
	}, eventWriter(q.ID))
	if err != nil {
		c.live.log.WithError(err).Debug("no subscription")
		c.complain(q.ID, "cannot subscribe now")
	}
}

// eventWriter writes events as messages. Those of a subscription without an id are shared by all who have none.
func eventWriter(id string) writer {
	place := func(at feed.Cursor) []byte {
		text, _ := json.Marshal(response{Type: "cursor", ID: id, Cursor: at.String()}) // strings always encode
		return append(appendTextHeader(nil, len(text)), text...)
	}
	if id == "" {
		return writer{place: place, event: func(_ context.Context, e *feed.Event) ([]byte, error) { return eventFrame(e) }}
	}
	prefix := fmt.Appendf(nil, `{"id":%q,`, id) // a name needs no escapes
	return writer{place: place, event: func(_ context.Context, e *feed.Event) ([]byte, error) {
		text, err := eventJSON(e)
		if err != nil {
			return nil, err
		}
		size := len(prefix) + len(text) - 1
		out := append(appendTextHeader(make([]byte, 0, size+10), size), prefix...)
		return append(out, text[1:]...), nil
	}}
}
