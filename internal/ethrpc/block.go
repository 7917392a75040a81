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

// block is a block as its node showed it, with the places of its parts. It never changes.
type block struct {
	text     []byte   // the block with full transactions
	txs      [][]byte // parts of text
	from, to int      // where the list of transactions lies in text
	uncles   int
	receipts [][]byte // nil if nobody sent them

	brief func() ([]byte, error) // the block with the hashes of its transactions
	logs  func() ([]log, error)
}

// open unpacks a stored block.
func open(packed []byte) (*block, error) {
	raw, err := chain.UnpackRaw(packed)
	if err != nil {
		return nil, err
	}
	b := &block{text: raw.Block}
	if err := jsonrpc.Read(b.text, b.read, asSent); err != nil {
		return nil, fmt.Errorf("stored block: %w", err)
	}
	if raw.Receipts != nil {
		if b.receipts, err = elements(raw.Receipts); err != nil {
			return nil, fmt.Errorf("stored receipts: %w", err)
		}
		if len(b.receipts) != len(b.txs) {
			return nil, fmt.Errorf("stored block: %d receipts for %d transactions", len(b.receipts), len(b.txs))
		}
	}
	b.brief = sync.OnceValues(b.shorten)
	b.logs = sync.OnceValues(b.readLogs)
	return b, nil
}

// read finds the parts of the block.
func (b *block) read(r *jsonrpc.Reader) error {
	if r.Kind() != '{' {
		return errors.New("not an object")
	}
	return r.Members(func(name []byte) error {
		switch string(name) {
		case "transactions":
			raw, at, err := r.Value()
			if err != nil {
				return err
			}
			b.from, b.to = at, at+len(raw)
			b.txs, err = elements(raw)
			return err
		case "uncles":
			raw, _, err := r.Value()
			if err != nil {
				return err
			}
			uncles, err := elements(raw)
			b.uncles = len(uncles)
			return err
		}
		_, _, err := r.Value()
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
	if b.to == 0 {
		return b.text, nil // a block without such a list
	}
	out := make([]byte, 0, len(b.text)-(b.to-b.from)+70*len(b.txs)+2)
	out = append(append(out, b.text[:b.from]...), '[')
	for i, tx := range b.txs {
		hash, err := member(tx, "hash")
		if err != nil || hash == nil {
			return nil, fmt.Errorf("stored transaction %d has no hash: %w", i, err)
		}
		if i > 0 {
			out = append(out, ',')
		}
		out = append(out, hash...)
	}
	return append(append(out, ']'), b.text[b.to:]...), nil
}

// weight is how many bytes the block takes at most: what is found in it lazily takes less than half of its text.
func (b *block) weight() int64 {
	size := len(b.text)
	for _, r := range b.receipts {
		size += len(r) + 24
	}
	return int64(size+24*len(b.txs)) * 2
}
