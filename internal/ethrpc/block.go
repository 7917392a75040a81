package ethrpc

import (
	"errors"
	"fmt"
	"sync"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/firstseen/firstseen/internal/chain"
	"github.com/firstseen/firstseen/internal/jsonrpc"
)

// asSent are the options for reading what was verified before it was stored: looking for names that stand twice again
// would cost as much as all the rest.
var asSent = jsontext.AllowDuplicateNames(true)

// block is a block as its node showed it. It never changes; its parts are found when they are first asked for.
type block struct {
	text []byte // the block with full transactions
	size int    // of all that was unpacked

	parts    func() (*parts, error)
	receipts func() ([][]byte, error) // errNoReceipts where nobody sent them
	brief    func() ([]byte, error)   // the block with the hashes of its transactions
	logs     func() ([]log, error)
}

// parts are the places of a block's parts in its text.
type parts struct {
	txs      [][]byte
	from, to int // where the list of transactions lies
	uncles   int
}

// open unpacks a stored block.
func open(packed []byte) (*block, error) {
	raw, err := chain.UnpackRaw(packed)
	if err != nil {
		return nil, err
	}
	b := &block{text: raw.Block, size: len(raw.Block) + len(raw.Receipts)}
	b.parts = sync.OnceValues(func() (*parts, error) {
		p := new(parts)
		if err := jsonrpc.Read(b.text, p.read, asSent); err != nil {
			return nil, fmt.Errorf("stored block: %w", err)
		}
		return p, nil
	})
	b.receipts = sync.OnceValues(func() ([][]byte, error) {
		if raw.Receipts == nil {
			return nil, errNoReceipts
		}
		return elements(raw.Receipts)
	})
	b.brief = sync.OnceValues(b.shorten)
	b.logs = sync.OnceValues(func() ([]log, error) {
		if raw.Receipts == nil {
			return nil, errNoReceipts
		}
		return logsIn(raw.Receipts)
	})
	return b, nil
}

// read finds the parts of a block.
func (p *parts) read(r *jsonrpc.Reader) error {
	if r.Kind() != '{' {
		return errors.New("not an object")
	}
	return r.Members(func(name []byte) error {
		raw, at, err := r.Value()
		if err != nil {
			return err
		}
		switch string(name) {
		case "transactions":
			p.from, p.to = at, at+len(raw)
			p.txs, err = elements(raw)
		case "uncles":
			var uncles [][]byte
			uncles, err = elements(raw)
			p.uncles = len(uncles)
		}
		return err
	})
}

// elements returns the elements of an array; not nil.
func elements(array []byte) ([][]byte, error) {
	out := [][]byte{}
	err := jsonrpc.Read(array, func(r *jsonrpc.Reader) error {
		if r.Kind() != '[' {
			return errors.New("not an array")
		}
		return r.Elements(func(int) error {
			raw, _, err := r.Value()
			out = append(out, raw)
			return err
		})
	}, asSent)
	return out, err
}

// errFound ends the reading of an object early.
var errFound = errors.New("found")

// member returns one member of an object; nil if there is none of that name.
func member(object []byte, name string) (value []byte, err error) {
	err = jsonrpc.Read(object, func(r *jsonrpc.Reader) error {
		if r.Kind() != '{' {
			return errors.New("not an object")
		}
		return r.Members(func(n []byte) error {
			found := string(n) == name
			raw, _, err := r.Value()
			if err == nil && found {
				value, err = raw, errFound
			}
			return err
		})
	}, asSent)
	if errors.Is(err, errFound) {
		err = nil
	}
	return value, err
}

// shorten puts the hashes of the transactions in their places; everything else stays as it is.
func (b *block) shorten() ([]byte, error) {
	p, err := b.parts()
	if err != nil || p.to == 0 { // a block without such a list
		return b.text, err
	}
	out := make([]byte, 0, len(b.text)-(p.to-p.from)+70*len(p.txs)+2)
	out = append(append(out, b.text[:p.from]...), '[')
	for i, tx := range p.txs {
		hash, err := member(tx, "hash")
		if err != nil || hash == nil {
			return nil, fmt.Errorf("stored transaction %d has no hash: %w", i, err)
		}
		if i > 0 {
			out = append(out, ',')
		}
		out = append(out, hash...)
	}
	return append(append(out, ']'), b.text[p.to:]...), nil
}

// weight is how many bytes the block takes at most: what is found in it later takes less than what it is found in.
func (b *block) weight() int64 { return 2 * int64(b.size) }
