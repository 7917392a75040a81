package chain

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/ethereum/go-ethereum/rlp"

	"github.com/firstseen/firstseen/schema"
)

// maxTime is the last second of the year 9999, the last that RFC 3339 can write.
const maxTime = 253402300799

// DecodeHeader reads a block header from its RLP (Ethereum Yellow Paper, section 4.3 and appendix B) and hashes it.
//
// It is strict, because the hash of these very bytes becomes a record's key: more than MaxHeader bytes, an encoding
// that is not canonical, bytes after the header, a number of 2^63 or more or a time past the year 9999 give
// ErrMalformed.
func DecodeHeader(raw []byte) (schema.Header, error) {
	if len(raw) > MaxHeader {
		return schema.Header{}, fmt.Errorf("%w: header of %d bytes, at most %d", ErrMalformed, len(raw), MaxHeader)
	}
	var h types.Header
	if err := rlp.DecodeBytes(raw, &h); err != nil {
		return schema.Header{}, fmt.Errorf("%w: header: %w", ErrMalformed, err)
	}
	// Some optional fields have more than one encoding that decodes; only the one go-ethereum writes is a header.
	again, err := rlp.EncodeToBytes(&h)
	if err != nil || !bytes.Equal(raw, again) {
		return schema.Header{}, fmt.Errorf("%w: header is not in canonical RLP", ErrMalformed)
	}
	return summarise(&h, crypto.Keccak256Hash(raw))
}

// ReadHeader reads a block header of a chain that lays it out otherwise than go-ethereum knows, so that its hash cannot be
// recomputed and is taken as given. The list must begin with Ethereum's first twelve items (parent first, fee recipient
// third, number ninth, time twelfth); what follows is not looked at. Limits and errors are DecodeHeader's.
func ReadHeader(raw []byte, hash schema.Hash) (schema.Header, error) {
	if len(raw) > MaxHeader {
		return schema.Header{}, fmt.Errorf("%w: header of %d bytes, at most %d", ErrMalformed, len(raw), MaxHeader)
	}
	var items []rlp.RawValue
	if err := rlp.DecodeBytes(raw, &items); err != nil {
		return schema.Header{}, fmt.Errorf("%w: header: %w", ErrMalformed, err)
	}
	if len(items) < 12 {
		return schema.Header{}, fmt.Errorf("%w: header of %d items, at least 12", ErrMalformed, len(items))
	}
	var h types.Header
	for _, f := range []struct {
		at   int
		into any
	}{{0, &h.ParentHash}, {2, &h.Coinbase}, {8, &h.Number}, {11, &h.Time}} {
		if err := rlp.DecodeBytes(items[f.at], f.into); err != nil {
			return schema.Header{}, fmt.Errorf("%w: header, item %d: %w", ErrMalformed, f.at, err)
		}
	}
	return summarise(&h, common.Hash(hash))
}

// Trust says what a node's word is worth. The zero value is the rule.
type Trust bool

// What can be done about a block's hash.
const (
	Verify  Trust = false // recompute it
	Believe Trust = true  // take it as given, on a chain whose headers are laid out in a way that is not known here
)

// DecodeHead is Verify's.
func DecodeHead(raw json.RawMessage) (schema.Header, error) { return Verify.DecodeHead(raw) }

// DecodeHead reads the header of a block in JSON-RPC's form (execution-apis, "Block") and leaves its transactions
// alone. The hash is recomputed as DecodeBlock does, with the same errors.
func (t Trust) DecodeHead(raw json.RawMessage) (schema.Header, error) {
	h, err := t.decodeJSON(raw)
	if err != nil {
		return schema.Header{}, err
	}
	return h.summary, nil
}

// verified is a header whose hash was recomputed, with what else its block's JSON held.
type verified struct {
	fields  types.Header
	summary schema.Header
	rlp     []byte
	txs     json.RawMessage
	rest    map[string]json.RawMessage // the block's other members
}

// decodeJSON reads a header from a block's JSON and, unless it is believed, holds it against the hash that the node gave.
func (t Trust) decodeJSON(raw json.RawMessage) (*verified, error) {
	if isNull(raw) {
		return nil, ErrNoBlock
	}
	// The members are split first, so that the transactions, which are nearly all of it, are not scanned again and
	// again for the header's sake.
	var members map[string]json.RawMessage
	if err := json.Unmarshal(raw, &members); err != nil {
		return nil, fmt.Errorf("%w: block: %w", ErrMalformed, err)
	}
	v := verified{txs: members["transactions"]}
	delete(members, "transactions")
	v.rest = members
	var claim common.Hash
	if text := members["hash"]; text == nil || isNull(text) || json.Unmarshal(text, &claim) != nil {
		return nil, fmt.Errorf("%w: block without a hash", ErrMalformed)
	}
	if err := v.header(members); err != nil {
		return nil, err
	}
	if got := crypto.Keccak256Hash(v.rlp); got != claim && t == Verify {
		return nil, fmt.Errorf("%w: node says %s, header gives %s", ErrHashMismatch, claim, got)
	}
	var err error
	v.summary, err = summarise(&v.fields, claim)
	return &v, err
}

// header decodes the header's members and encodes them as RLP.
func (v *verified) header(members map[string]json.RawMessage) error {
	text, err := json.Marshal(members)
	if err == nil {
		err = json.Unmarshal(text, &v.fields)
	}
	if err == nil {
		v.rlp, err = rlp.EncodeToBytes(&v.fields)
	}
	if err != nil {
		return fmt.Errorf("%w: header: %w", ErrMalformed, err)
	}
	if len(v.rlp) > MaxHeader {
		return fmt.Errorf("%w: header of %d bytes, at most %d", ErrMalformed, len(v.rlp), MaxHeader)
	}
	return nil
}

func summarise(h *types.Header, hash common.Hash) (schema.Header, error) {
	if h.Number == nil || !h.Number.IsInt64() || h.Number.Sign() < 0 {
		return schema.Header{}, fmt.Errorf("%w: block number above %d", ErrMalformed, int64(math.MaxInt64))
	}
	if h.Time > maxTime {
		return schema.Header{}, fmt.Errorf("%w: block time of %d s is past the year 9999", ErrMalformed, h.Time)
	}
	return schema.Header{
		Hash:   schema.Hash(hash),
		Parent: schema.Hash(h.ParentHash),
		Number: h.Number.Uint64(),
		Time:   time.Unix(int64(h.Time), 0).UTC(),

		FeeRecipient: schema.Address(h.Coinbase),
	}, nil
}

func isNull(raw json.RawMessage) bool {
	return bytes.Equal(bytes.TrimSpace(raw), []byte("null"))
}

// HeaderJSON returns a header as JSON-RPC shows it (execution-apis, "Block" without what is not of the header), its hash
// included, from its RLP. What DecodeHeader refuses gives ErrMalformed.
func HeaderJSON(raw []byte) (json.RawMessage, error) {
	var h types.Header
	if err := rlp.DecodeBytes(raw, &h); err != nil {
		return nil, fmt.Errorf("%w: header: %w", ErrMalformed, err)
	}
	text, err := json.Marshal(&h) // go-ethereum's encoding, which is also what it notifies subscribers with
	if err != nil {
		return nil, fmt.Errorf("encode header: %w", err)
	}
	return text, nil
}
