// Package schema is the vocabulary that every other package shares: heads, observations, records, statuses and
// reports, the SQL migrations that store them and the vectors that pin them down for other languages.
//
// It imports the standard library only and holds no behaviour beyond parsing and printing its own words.
package schema

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"time"
)

// Hash is 32 bytes: a block's or transaction's Keccak-256, or a payload's SHA-256. Its text form is lower-case hex
// behind 0x.
type Hash [32]byte

// Address is a 20-byte Ethereum account address. Its text form is lower-case hex behind 0x, without the EIP-55
// checksum.
type Address [20]byte

// Key identifies a record within its chain: 64 lower-case hex digits without 0x.
type Key string

// Bytes is a byte string whose text form is hex behind 0x.
type Bytes []byte

// ErrHex reports text that is not hex of the expected length.
var ErrHex = errors.New("not 0x-prefixed hex of the expected length")

// ParseHash reads 64 hex digits of either case, with or without 0x.
func ParseHash(s string) (Hash, error) {
	var h Hash
	err := parseHex(h[:], s)
	return h, err
}

// ParseAddress reads 40 hex digits of either case, with or without 0x.
func ParseAddress(s string) (Address, error) {
	var a Address
	err := parseHex(a[:], s)
	return a, err
}

func parseHex(dst []byte, s string) error {
	if len(s) >= 2 && s[0] == '0' && (s[1] == 'x' || s[1] == 'X') {
		s = s[2:]
	}
	if len(s) != hex.EncodedLen(len(dst)) {
		return fmt.Errorf("%w: %d digits, want %d", ErrHex, len(s), hex.EncodedLen(len(dst)))
	}
	if _, err := hex.Decode(dst, []byte(s)); err != nil {
		return fmt.Errorf("%w: %w", ErrHex, err)
	}
	return nil
}

// PayloadKey is the key of a payload that came without a header: the SHA-256 of its bytes.
func PayloadKey(payload []byte) Key {
	sum := sha256.Sum256(payload)
	return Key(hex.EncodeToString(sum[:]))
}

// Key returns the hash as a record key.
func (h Hash) Key() Key { return Key(hex.EncodeToString(h[:])) }

// String returns lower-case hex behind 0x.
func (h Hash) String() string { return "0x" + hex.EncodeToString(h[:]) }

// IsZero tells whether the hash was never set.
func (h Hash) IsZero() bool { return h == Hash{} }

// MarshalText implements encoding.TextMarshaler.
func (h Hash) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler; it needs the 0x.
func (h *Hash) UnmarshalText(text []byte) error { return unmarshalHex(h[:], text) }

// Digits returns the address as 40 hex digits without 0x, the form stored in the database.
func (a Address) Digits() string { return hex.EncodeToString(a[:]) }

// String returns lower-case hex behind 0x.
func (a Address) String() string { return "0x" + a.Digits() }

// MarshalText implements encoding.TextMarshaler.
func (a Address) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler; it needs the 0x.
func (a *Address) UnmarshalText(text []byte) error { return unmarshalHex(a[:], text) }

// Hash returns the key as a hash; a key that is not 64 hex digits gives ErrHex.
func (k Key) Hash() (Hash, error) { return ParseHash(string(k)) }

// String returns hex behind 0x.
func (b Bytes) String() string { return "0x" + hex.EncodeToString(b) }

// MarshalText implements encoding.TextMarshaler.
func (b Bytes) MarshalText() ([]byte, error) { return []byte(b.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler; it needs the 0x and an even number of digits.
func (b *Bytes) UnmarshalText(text []byte) error {
	if len(text) < 2 || len(text)%2 != 0 {
		return ErrHex
	}
	out := make([]byte, (len(text)-2)/2)
	if err := unmarshalHex(out, text); err != nil {
		return err
	}
	*b = out
	return nil
}

func unmarshalHex(dst, text []byte) error {
	if len(text) < 2 || text[0] != '0' || text[1] != 'x' {
		return ErrHex
	}
	return parseHex(dst, string(text))
}

var name = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

// ValidName tells whether s may name an observer, a node or a server: 1 to 64 of A-Z a-z 0-9 . _ -.
func ValidName(s string) bool { return name.MatchString(s) }

// Micros is t as the database stores every time: microseconds since 1970-01-01 UTC.
func Micros(t time.Time) int64 { return t.UnixMicro() }

// FromMicros is the inverse of Micros, in UTC.
func FromMicros(us int64) time.Time { return time.UnixMicro(us).UTC() }
