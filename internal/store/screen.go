package store

import (
	"fmt"
	"math"
	"math/big"

	"github.com/firstseen/firstseen/schema"
)

const (
	maxContentType = 128
	maxName        = 64
	maxOrigin      = 16
	maxPayload     = 1<<24 - 1 // MEDIUMBLOB
	weiBytes       = 32
)

// screen finds what the tables cannot hold. SQLite would take much of it where MySQL would not, and an error from
// either costs a whole batch its transaction.
func screen(o *schema.Offer) error {
	switch {
	case !validKey(string(o.Key)):
		return &badOffer{"key is not 64 lower-case hex digits"}
	case len(o.Payload) > maxPayload:
		return &badOffer{fmt.Sprintf("payload is %d bytes, at most %d can be stored", len(o.Payload), maxPayload)}
	case len(o.Raw) > maxPayload:
		return &badOffer{fmt.Sprintf("raw JSON is %d bytes, at most %d can be stored", len(o.Raw), maxPayload)}
	}
	for _, text := range []struct {
		name, value string
		limit       int
	}{
		{"content type", o.ContentType, maxContentType},
		{"node", o.Node, maxName},
		{"server", o.Server, maxName},
		{"remote address", o.Remote, maxName},
		{"origin", string(o.Origin), maxOrigin},
	} {
		if len(text.value) > text.limit {
			return &badOffer{fmt.Sprintf("%s is %d bytes, at most %d can be stored", text.name, len(text.value), text.limit)}
		}
		if !printable(text.value) {
			return &badOffer{text.name + " holds more than printable ASCII"}
		}
	}
	if o.Header == nil {
		return screenBare(o)
	}
	return screenBlock(o)
}

func screenBare(o *schema.Offer) error {
	if o.Chain != schema.BareChain || len(o.Transactions) > 0 || o.Raw != nil {
		return &badOffer{"a chain, transactions or raw JSON without a header"}
	}
	return nil
}

func screenBlock(o *schema.Offer) error {
	switch {
	case o.Chain == schema.BareChain || o.Chain > math.MaxInt64:
		return &badOffer{"chain id out of range"}
	case o.Header.Number > math.MaxInt64:
		return &badOffer{"block number out of range"}
	case !schema.ValidName(o.Observer):
		return &badOffer{"observer is not a name"}
	case o.Key != o.Header.Hash.Key():
		return &badOffer{"key is not the header's hash"}
	}
	for i := range o.Transactions {
		t := &o.Transactions[i]
		if _, err := wei(t.Value); err != nil {
			return err
		}
		if t.GasUsed != nil && *t.GasUsed > math.MaxInt64 {
			return &badOffer{"gas used out of range"}
		}
	}
	return nil
}

func validKey(key string) bool {
	if len(key) != 64 {
		return false
	}
	for i := range len(key) {
		if c := key[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

func printable(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// wei turns decimal digits into 32 bytes big-endian. Empty text is 0.
func wei(decimal string) ([]byte, error) {
	out := make([]byte, weiBytes)
	if decimal == "" || decimal == "0" {
		return out, nil
	}
	bad := &badOffer{"transaction value is not a decimal below 2^256"}
	if len(decimal) > 78 { // the digits of 2^256-1; parsing longer text would cost its square
		return nil, bad
	}
	n, ok := new(big.Int).SetString(decimal, 10)
	if !ok || n.Sign() < 0 || n.BitLen() > 8*weiBytes {
		return nil, bad
	}
	return n.FillBytes(out), nil
}
