package statsapi

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/url"
	"slices"
	"strings"

	"github.com/firstseen/firstseen/internal/feed"
	"github.com/firstseen/firstseen/schema"
)

// wanted is what a subscriber asks for, in the words of the API: as members of a message and as parameters of a URL.
type wanted struct {
	Chain    []Number `json:"chain"`
	Kind     []string `json:"kind"`
	Status   []string `json:"status"`
	Address  []string `json:"address"`
	Delivery string   `json:"delivery"`
	From     string   `json:"from"`
}

// wantedOf reads the parameters of a URL. Lists may be repeated or separated by commas. A parameter of another name is
// left alone, because proxies and browsers add some.
func wantedOf(q url.Values) (wanted, error) {
	w := wanted{
		Kind: list(q, "kind"), Status: list(q, "status"), Address: list(q, "address"),
		Delivery: q.Get("delivery"), From: q.Get("from"),
	}
	for _, text := range list(q, "chain") {
		n, ok := decimal(text)
		if !ok {
			return w, badParameter("chain", text, "must be a chain id: a whole number")
		}
		w.Chain = append(w.Chain, Number(n))
	}
	return w, nil
}

func list(q url.Values, name string) []string {
	var out []string
	for _, value := range q[name] {
		for part := range strings.SplitSeq(value, ",") {
			if part != "" {
				out = append(out, part)
			}
		}
	}
	return out
}

// filter checks what is asked for.
func (w wanted) filter() (feed.Filter, error) {
	var f feed.Filter
	for _, n := range w.Chain {
		if n > math.MaxInt64 {
			return f, badParameter("chain", fmt.Sprint(uint64(n)), "must be a chain id")
		}
		f.Chains = append(f.Chains, uint64(n))
	}
	kinds := []schema.FeedKind{schema.FeedBlock, schema.FeedStatus, schema.FeedBare, schema.FeedGap, schema.FeedAlarm}
	for _, text := range w.Kind {
		if !slices.Contains(kinds, schema.FeedKind(text)) {
			return f, badParameter("kind", text, "must be block, status, bare, gap or alarm")
		}
		f.Kinds = append(f.Kinds, schema.FeedKind(text))
	}
	statuses := []schema.Status{schema.StatusCanonical, schema.StatusNonCanonical, schema.StatusSafe,
		schema.StatusFinalized, schema.StatusOrphaned}
	for _, text := range w.Status {
		if !slices.Contains(statuses, schema.Status(text)) {
			return f, badParameter("status", text, "must be canonical, non_canonical, safe, finalized or orphaned")
		}
		f.Statuses = append(f.Statuses, schema.Status(text))
	}
	if len(w.Address) > maxAddresses || len(w.Chain) > maxAddresses || len(w.Kind) > maxAddresses ||
		len(w.Status) > maxAddresses {
		return f, badParameter("address", "", fmt.Sprintf("lists may have at most %d entries", maxAddresses))
	}
	for _, text := range w.Address {
		address, err := schema.ParseAddress(text)
		if err != nil {
			return f, badParameter("address", text, "must be 40 hex digits behind 0x")
		}
		f.Addresses = append(f.Addresses, address)
	}
	switch w.Delivery {
	case "", "instant":
	case "finalized":
		f.Finalized = true
	default:
		return f, badParameter("delivery", w.Delivery, "must be instant or finalized")
	}
	return f, nil
}

// place reads where to begin.
func (w wanted) place() (feed.Place, error) {
	switch w.From {
	case "", "latest":
		return feed.Place{Latest: true}, nil
	case "earliest":
		return feed.Place{}, nil
	}
	at, err := feed.ParseCursor(w.From)
	if err != nil {
		return feed.Place{}, badParameter("from", w.From, "must be latest, earliest or a cursor that an event gave")
	}
	return feed.Place{Cursor: at}, nil
}

// explain is what a client may read of an error: what its request was wrong about, or nothing.
func explain(err error) string {
	var bad interface {
		error
		GetStatus() int
	}
	if errors.As(err, &bad) {
		return bad.Error()
	}
	return "internal error"
}

// strictly decodes a message that has no other members than those known.
func strictly(text []byte, into any) error {
	d := json.NewDecoder(strings.NewReader(string(text)))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return err
	}
	if d.More() {
		return errors.New("more than one value")
	}
	return nil
}
