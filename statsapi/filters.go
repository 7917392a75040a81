package statsapi

import (
	"math/big"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/firstseen/firstseen/schema"
)

// heightParam is a block's number.
type heightParam string

// Schema implements huma.SchemaProvider.
func (heightParam) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeInteger, Minimum: new(0.0)}
}

// read returns nil for none. What is beyond all heights that can be stored is the highest.
func (p heightParam) read(name string) (*uint64, error) {
	if p == "" {
		return nil, nil
	}
	n, ok := decimal(string(p))
	if !ok {
		return nil, badParameter(name, string(p), "must be a height in decimal")
	}
	n = min(n, 1<<63-1)
	return &n, nil
}

// momentParam is a moment.
type momentParam string

// Schema implements huma.SchemaProvider.
func (momentParam) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Format: "date-time"}
}

func (p momentParam) read(name string) (*time.Time, error) {
	if p == "" {
		return nil, nil
	}
	t, err := time.Parse(time.RFC3339Nano, string(p))
	if err != nil || t.Year() < 1970 || t.Year() > 9999 { // beyond, microseconds may overflow
		return nil, badParameter(name, string(p), "must be RFC 3339 like 2026-01-02T15:04:05Z, from 1970 to 9999")
	}
	return &t, nil
}

// statusParam is one status or several with commas.
type statusParam string

// Schema implements huma.SchemaProvider.
func (statusParam) Schema(huma.Registry) *huma.Schema {
	one := "(" + strings.Join(statusWords(), "|") + ")"
	return &huma.Schema{Type: huma.TypeString, Pattern: "^" + one + "(," + one + ")*$"}
}

func statusWords() []string {
	return []string{
		string(schema.StatusCanonical), string(schema.StatusNonCanonical), string(schema.StatusSafe),
		string(schema.StatusFinalized), string(schema.StatusOrphaned),
	}
}

func (p statusParam) read() ([]schema.Status, error) {
	if p == "" {
		return nil, nil
	}
	var out []schema.Status
	for word := range strings.SplitSeq(string(p), ",") {
		if !slices.Contains(statusWords(), word) {
			return nil, badParameter("status", string(p), "must be of "+strings.Join(statusWords(), ", ")+"; several with commas")
		}
		out = append(out, schema.Status(word))
	}
	return out, nil
}

// addressParam is an account's address.
type addressParam string

// Schema implements huma.SchemaProvider.
func (addressParam) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Pattern: "^(0[xX])?[0-9a-fA-F]{40}$"}
}

func (p addressParam) read(name string) (*schema.Address, error) {
	if p == "" {
		return nil, nil
	}
	a, err := schema.ParseAddress(string(p))
	if err != nil {
		return nil, badParameter(name, string(p), "must be an address of 40 hex digits")
	}
	return &a, nil
}

// weiParam is an amount.
type weiParam string

// Schema implements huma.SchemaProvider.
func (weiParam) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Pattern: "^[0-9]{1,78}$"}
}

// read returns 32 bytes big-endian, or nil for none.
func (p weiParam) read(name string) ([]byte, error) {
	if p == "" {
		return nil, nil
	}
	n, ok := new(big.Int).SetString(string(p), 10)
	if !ok || len(p) > 78 || strings.Trim(string(p), "0123456789") != "" || n.BitLen() > 256 {
		return nil, badParameter(name, clip(string(p)), "must be wei in decimal, below 2^256")
	}
	return n.FillBytes(make([]byte, 32)), nil
}

// RecordQuery is what lists of records select by. It is exported for huma, which passes over embedded fields that are
// not.
type RecordQuery struct {
	Chain     chainParam  `query:"chain" doc:"Only of this chain."`
	Status    statusParam `query:"status" doc:"Only in this status; several with commas."`
	MinNumber heightParam `query:"min_number" doc:"Only blocks of this height or above."`
	MaxNumber heightParam `query:"max_number" doc:"Only blocks of this height or below."`
	Since     momentParam `query:"since" doc:"Only what a server received at or after this moment."`
	Until     momentParam `query:"until" doc:"Only what a server received before this moment."`
	Observer  string      `query:"observer" doc:"Only what this observer saw first."`
	Node      string      `query:"node" doc:"Only what was seen first through a node of this name."`
	Server    string      `query:"server" doc:"Only what this server received first."`
}

func (in *RecordQuery) read() (f schema.RecordFilter, err error) {
	if f.Chain, err = in.Chain.read(); err != nil {
		return f, err
	}
	if f.Statuses, err = in.Status.read(); err != nil {
		return f, err
	}
	if f.From, err = in.MinNumber.read("min_number"); err != nil {
		return f, err
	}
	if f.To, err = in.MaxNumber.read("max_number"); err != nil {
		return f, err
	}
	if f.Since, err = in.Since.read("since"); err != nil {
		return f, err
	}
	if f.Until, err = in.Until.read("until"); err != nil {
		return f, err
	}
	if f.Observer, err = nameParameter("observer", in.Observer); err != nil {
		return f, err
	}
	if f.Node, err = nameParameter("node", in.Node); err != nil {
		return f, err
	}
	f.Server, err = nameParameter("server", in.Server)
	return f, err
}

// onlyChain tells whether nothing is selected but perhaps a chain.
func (in *RecordQuery) onlyChain() bool {
	rest := *in
	rest.Chain = ""
	return rest == RecordQuery{}
}

// PlaceQuery is where in a list to begin and how much to answer. It is exported for huma.
type PlaceQuery struct {
	Limit  limitParam `query:"limit" doc:"Rows to answer; more than 100 gives 100."`
	Cursor string     `query:"cursor" doc:"Go on after an earlier answer. Costs the same however far it leads."`

	url url.URL
}

// Resolve implements huma.Resolver: links to other parts repeat the request's parameters.
func (in *PlaceQuery) Resolve(ctx huma.Context) []error {
	in.url = ctx.URL()
	return nil
}

// sorted reads a direction: the name of an order, with a minus for the highest first, which is the default.
func sorted(value, order string) (ascending bool, err error) {
	switch value {
	case order:
		return true, nil
	case "", "-" + order:
		return false, nil
	}
	return false, badParameter("sort", value, "must be "+order+" or -"+order)
}
