// Package keys makes and checks access keys: tokens whose secret is shown once and then known to its owner alone,
// because the store keeps a digest of it.
//
// A token is fsk_<id>_<secret>. The id is 16 and the secret 52 characters of RFC 4648's base32 alphabet in lower case:
// 80 and 256 random bits. With that much chance in it a secret needs no slow hash: nobody can try them all.
package keys

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/firstseen/firstseen/schema"
)

const (
	prefix    = "fsk_"
	idLen     = 16 // characters
	secretLen = 52
	idBytes   = 10
	secBytes  = 32
	maxLabel  = 200 // bytes
)

// Why a token is not good. None says more than the caller may tell whoever showed it.
var (
	ErrForm    = errors.New("not an access key: it should look like fsk_<id>_<secret>")
	ErrSecret  = errors.New("the access key is unknown")
	ErrRevoked = errors.New("the access key was revoked")
	ErrScope   = errors.New("the access key is for something else: observers need scope observe, readers scope read")
)

// Token is an access key in its owner's hands. However it is printed, its secret is left out; Reveal is the only way to
// have it.
type Token struct{ id, secret string }

var alphabet = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// Mint makes a key and the token that opens it. The key has no time yet; the store gives it one. An observe key needs
// the name of its observer, any other must not have one; a label is at most 200 bytes of printable text.
func Mint(scope schema.KeyScope, observer, label string) (schema.AccessKey, Token, error) {
	switch {
	case scope != schema.ScopeObserve && scope != schema.ScopeRead:
		return schema.AccessKey{}, Token{}, fmt.Errorf("scope %q: use %s or %s", scope, schema.ScopeObserve, schema.ScopeRead)
	case scope == schema.ScopeObserve && !schema.ValidName(observer):
		return schema.AccessKey{}, Token{}, fmt.Errorf("observer %q: a key of scope %s needs its observer's name, "+
			"1 to 64 of A-Z a-z 0-9 . _ -", observer, scope)
	case scope != schema.ScopeObserve && observer != "":
		return schema.AccessKey{}, Token{}, fmt.Errorf("observer %q: only a key of scope %s has one", observer, schema.ScopeObserve)
	case len(label) > maxLabel || !printable(label):
		return schema.AccessKey{}, Token{}, fmt.Errorf("label: use at most %d bytes of printable text", maxLabel)
	}
	t := Token{id: random(idBytes), secret: random(secBytes)}
	return schema.AccessKey{ID: t.id, Scope: scope, Observer: observer, Label: label, Digest: t.Digest()}, t, nil
}

// random never fails: crypto/rand ends the process if the system has no randomness.
func random(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	return alphabet.EncodeToString(b)
}

func printable(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

// Parse reads a token. Its error, ErrForm, never quotes it.
func Parse(text string) (Token, error) {
	rest, ok := strings.CutPrefix(text, prefix)
	id, secret, ok2 := strings.Cut(rest, "_")
	if !ok || !ok2 || !ValidID(id) || len(secret) != secretLen || !spelled(secret) {
		return Token{}, ErrForm
	}
	return Token{id, secret}, nil
}

// ValidID tells whether s has the form of a key's id.
func ValidID(s string) bool { return len(s) == idLen && spelled(s) }

func spelled(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return (r < 'a' || r > 'z') && (r < '2' || r > '7') })
}

// ID names the key that the token claims to open. It is no secret.
func (t Token) ID() string { return t.id }

// Digest is what the store keeps of the secret.
func (t Token) Digest() schema.Hash { return sha256.Sum256([]byte(t.secret)) }

// Opens tells whether the token opens a key of that scope: nil, ErrSecret, ErrRevoked or ErrScope. Whoever does not have
// the secret learns nothing but that, however long it takes.
func (t Token) Opens(k schema.AccessKey, scope schema.KeyScope) error {
	digest := t.Digest()
	same := subtle.ConstantTimeCompare(digest[:], k.Digest[:]) & subtle.ConstantTimeCompare([]byte(t.id), []byte(k.ID))
	switch {
	case same != 1:
		return ErrSecret
	case k.RevokedAt != nil:
		return ErrRevoked
	case k.Scope != scope:
		return ErrScope
	}
	return nil
}

// Reveal returns the whole token, to be shown to its owner once or sent to a server.
func (t Token) Reveal() string { return prefix + t.id + "_" + t.secret }

// String returns the token with its secret hidden.
func (t Token) String() string { return prefix + t.id + "_xxxxx" }

// GoString hides the secret from %#v, too.
func (t Token) GoString() string { return t.String() }

// MarshalText hides the secret from encoders.
func (t Token) MarshalText() ([]byte, error) { return []byte(t.String()), nil }
