package ethrpc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/rpc"

	"github.com/firstseen/firstseen/internal/chain"
	"github.com/firstseen/firstseen/internal/jsonrpc"
	"github.com/firstseen/firstseen/schema"
)

// log is one event of a contract.
type log struct {
	text    []byte // as the node sent it within a receipt
	address common.Address
	topics  []common.Hash
}

// logsIn finds the logs in a block's receipts, in one pass: most of what is there is none of them.
func logsIn(receipts []byte) ([]log, error) {
	var out []log
	err := jsonrpc.Read(receipts, func(r *jsonrpc.Reader) error {
		return r.Elements(func(int) error {
			return r.Members(func(name []byte) error {
				if string(name) != "logs" {
					_, _, err := r.Value()
					return err
				}
				return r.Elements(func(int) error {
					text, _, err := r.Value()
					if err != nil {
						return err
					}
					var l struct {
						Address common.Address
						Topics  []common.Hash
					}
					err = json.Unmarshal(text, &l)
					out = append(out, log{text, l.Address, l.Topics})
					return err
				})
			})
		})
	}, asSent)
	if err != nil {
		return nil, fmt.Errorf("stored receipts: %w", err)
	}
	return out, nil
}

// Limits of one filter. Every log is held against all of it.
const (
	maxAddresses = 1000
	maxTopics    = 4 // that a log can have
	maxSubTopics = 1000
)

// filter is what eth_getLogs selects by (execution-apis, "Filter").
type filter struct {
	block     *common.Hash
	from, to  *rpc.BlockNumber
	addresses []common.Address
	topics    [][]common.Hash // by position; an empty one is any

	bits [][]chain.BloomBits // one of each must be in a block's bloom for a log of it to match
}

func wrongFilter(format string, args ...any) error {
	return jsonrpc.Errorf(jsonrpc.CodeParams, "invalid argument 0: "+format, args...)
}

// addressList is an address, a list of them, or null.
type addressList []common.Address

// UnmarshalJSON implements json.Unmarshaler.
func (l *addressList) UnmarshalJSON(text []byte) (err error) {
	_, err = oneOrMore(text, (*[]common.Address)(l))
	return err
}

// topicList is a topic, a list of them of which null makes it mean any, or null.
type topicList []common.Hash

// UnmarshalJSON implements json.Unmarshaler.
func (l *topicList) UnmarshalJSON(text []byte) error {
	null, err := oneOrMore(text, (*[]common.Hash)(l))
	if null {
		*l, err = nil, nil
	}
	return err
}

var errNull = errors.New("null among others")

// oneOrMore reads a value or a list of them. It tells apart a list with null in it.
func oneOrMore[T any](text []byte, into *[]T) (null bool, err error) {
	*into = nil
	var all []*T
	if len(text) > 0 && text[0] == '[' {
		err = json.Unmarshal(text, &all)
	} else {
		var one *T
		if err = json.Unmarshal(text, &one); one != nil {
			all = append(all, one)
		}
	}
	for _, v := range all {
		if v == nil && err == nil {
			return true, errNull
		}
		if v != nil {
			*into = append(*into, *v)
		}
	}
	return false, err
}

func readFilter(params [][]byte) (*filter, error) {
	type query struct {
		BlockHash *common.Hash
		FromBlock *rpc.BlockNumber
		ToBlock   *rpc.BlockNumber
		Address   addressList
		Topics    []topicList
	}
	q, err := read[query](params, 0)
	if err != nil {
		return nil, err
	}
	switch {
	case q.BlockHash != nil && (q.FromBlock != nil || q.ToBlock != nil):
		return nil, wrongFilter("cannot specify both BlockHash and FromBlock/ToBlock, choose one or the other")
	case len(q.Address) > maxAddresses:
		return nil, wrongFilter("more than %d addresses", maxAddresses)
	case len(q.Topics) > maxTopics:
		return nil, wrongFilter("exceed max topics")
	}
	f := &filter{block: q.BlockHash, from: q.FromBlock, to: q.ToBlock, addresses: q.Address}
	f.require(len(q.Address), func(i int) []byte { return q.Address[i][:] })
	for _, t := range q.Topics {
		if len(t) > maxSubTopics {
			return nil, wrongFilter("more than %d topics in one place", maxSubTopics)
		}
		f.topics = append(f.topics, t)
		f.require(len(t), func(i int) []byte { return t[i][:] })
	}
	return f, nil
}

// require notes what a block's bloom must have one of.
func (f *filter) require(n int, value func(i int) []byte) {
	if n == 0 {
		return
	}
	bits := make([]chain.BloomBits, n)
	for i := range bits {
		bits[i] = chain.BitsOf(value(i))
	}
	f.bits = append(f.bits, bits)
}

// possible tells whether a block may have a log that matches. Without a header it may.
func (f *filter) possible(header []byte) (bool, error) {
	if header == nil {
		return true, nil
	}
	bloom, err := chain.LogsBloom(header)
	if err != nil {
		return false, err
	}
	if len(f.bits) == 0 {
		return slices.ContainsFunc(bloom, func(b byte) bool { return b != 0 }), nil
	}
	for _, some := range f.bits {
		if !slices.ContainsFunc(some, func(b chain.BloomBits) bool { return b.In(bloom) }) {
			return false, nil
		}
	}
	return true, nil
}

func (f *filter) matches(l *log) bool {
	if len(f.addresses) > 0 && !slices.Contains(f.addresses, l.address) || len(f.topics) > len(l.topics) {
		return false
	}
	for i, some := range f.topics {
		if len(some) > 0 && !slices.Contains(some, l.topics[i]) {
			return false
		}
	}
	return true
}

func getLogs(ctx context.Context, v *View, params [][]byte) ([]byte, error) {
	f, err := readFilter(params)
	if err != nil {
		return nil, err
	}
	found := &foundLogs{filter: f, most: v.s.o.MaxLogs, size: v.budget.left()}
	if f.block != nil {
		key, err := v.known(ctx, schema.Hash(*f.block), false)
		if err != nil {
			return nil, err
		}
		if key == nil {
			return nil, jsonrpc.Errorf(jsonrpc.CodeServer, "unknown block")
		}
		b, err := v.s.blocks.get(ctx, v.chain.Chain, *key)
		if err == nil {
			err = found.add(b)
		}
		return found.array(), err
	}
	from, to, err := v.stretch(f)
	if err != nil {
		return nil, err
	}
	err = v.scan(ctx, from, to, found)
	return found.array(), err
}

// stretch settles which heights a filter means.
func (v *View) stretch(f *filter) (from, to uint64, err error) {
	ends := [2]uint64{v.chain.Head.Number, v.chain.Head.Number}
	for i, n := range []*rpc.BlockNumber{f.from, f.to} {
		switch {
		case n == nil:
		case *n == rpc.PendingBlockNumber:
			return 0, 0, jsonrpc.Errorf(jsonrpc.CodeParams, "pending logs are not supported")
		default:
			if ends[i], err = v.height(*n, "header"); err != nil {
				return 0, 0, err
			}
		}
	}
	from, to = ends[0], ends[1]
	switch {
	case from > to:
		return 0, 0, jsonrpc.Errorf(jsonrpc.CodeParams, "invalid block range params")
	case to > v.chain.Head.Number:
		return 0, 0, jsonrpc.Errorf(jsonrpc.CodeParams, "block range extends beyond current head block")
	case from < v.chain.Root.Number:
		return 0, 0, jsonrpc.Errorf(jsonrpc.CodePruned, "no block below %d is stored", v.chain.Root.Number)
	case to-from >= uint64(v.s.o.MaxRange):
		return 0, 0, jsonrpc.Errorf(jsonrpc.CodeLimit, "block range too large: ask for %d blocks at most", v.s.o.MaxRange)
	}
	return from, to, nil
}

// scanned is how many blocks are fetched and opened at once: each may be some megabytes, chain.MaxRaw at worst.
const scanned = 4

// scan looks through the branch. Blocks whose bloom says that nothing of theirs matches are not opened.
func (v *View) scan(ctx context.Context, from, to uint64, found *foundLogs) error {
	var keys []schema.Key
	next := from
	err := v.s.o.Store.Branch(ctx, v.chain.Chain, from, to, func(h schema.BranchHeader) error {
		if h.Number != next {
			return errMoved
		}
		next++
		possible, err := found.possible(h.RLP)
		if possible {
			keys = append(keys, h.Key)
		}
		return err
	})
	if err == nil && next != to+1 {
		err = errMoved
	}
	if err != nil {
		return err
	}
	if len(keys) > scanned {
		select {
		case v.s.scans <- struct{}{}:
			defer func() { <-v.s.scans }()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	for some := range slices.Chunk(keys, scanned) {
		if err := v.open(ctx, some, found.add); err != nil {
			return err
		}
	}
	return nil
}

// errMoved reports that the branch ended below where this request saw it end: a reorganisation was under way.
var errMoved = jsonrpc.Errorf(jsonrpc.CodeServer, "the chain was reorganised meanwhile: ask again")

// open passes on some blocks in order. Those that are not at hand are not kept either: a long search would drive out what
// everybody else asks for.
func (v *View) open(ctx context.Context, keys []schema.Key, each func(*block) error) error {
	if len(keys) == 1 { // as of who follows the head
		b, err := v.s.blocks.get(ctx, v.chain.Chain, keys[0])
		if err != nil {
			return err
		}
		return each(b)
	}
	at, errs := make([]*block, len(keys)), make([]error, len(keys))
	var missing []schema.Key
	for i, key := range keys {
		if at[i] = v.s.blocks.cached(blockID{v.chain.Chain, key}); at[i] == nil {
			missing = append(missing, key)
		}
	}
	raws, err := v.s.o.Store.Raws(ctx, v.chain.Chain, missing)
	if err != nil {
		return err
	}
	spread(len(keys), func(i int) {
		if at[i] == nil {
			packed := raws[keys[i]]
			if packed == nil {
				errs[i] = errNotKept
				return
			}
			if at[i], errs[i] = open(packed); errs[i] != nil {
				return
			}
		}
		_, errs[i] = at[i].logs()
	})
	for i := range keys {
		if errs[i] != nil {
			return errs[i]
		}
		if err := each(at[i]); err != nil {
			return err
		}
	}
	return nil
}

// foundLogs are the logs that match, up to a number and a size. They are copied: what they are parts of can be much
// larger.
type foundLogs struct {
	*filter
	most int   // logs
	size int64 // bytes
	n    int
	body []byte
}

func (f *foundLogs) add(b *block) error {
	logs, err := b.logs()
	if err != nil {
		return err
	}
	for i := range logs {
		if !f.matches(&logs[i]) {
			continue
		}
		if f.n++; f.n > f.most || int64(len(f.body)+len(logs[i].text)+2) > f.size {
			return jsonrpc.Errorf(jsonrpc.CodeLimit, "query returned more than %d results, or %d bytes: ask for fewer blocks",
				f.most, f.size)
		}
		f.body = append(append(f.body, ','), logs[i].text...)
	}
	return nil
}

func (f *foundLogs) array() []byte {
	if len(f.body) == 0 {
		return []byte("[]")
	}
	f.body[0] = '['
	return append(f.body, ']')
}
