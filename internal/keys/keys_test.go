package keys_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/firstseen/firstseen/internal/keys"
	"github.com/firstseen/firstseen/schema"
)

func minted(t *testing.T, scope schema.KeyScope, observer string) (schema.AccessKey, keys.Token) {
	t.Helper()
	k, token, err := keys.Mint(scope, observer, "rack 4, paris")
	if err != nil {
		t.Fatal(err)
	}
	return k, token
}

func TestATokenOpensItsOwnKeyAndNoOther(t *testing.T) {
	t.Parallel()
	mine, token := minted(t, schema.ScopeObserve, "paris-1")
	other, _ := minted(t, schema.ScopeObserve, "paris-1")
	read, reader := minted(t, schema.ScopeRead, "")
	now := time.Now()
	revoked := mine
	revoked.RevokedAt = &now
	renamed := mine
	renamed.ID = other.ID
	for name, c := range map[string]struct {
		token keys.Token
		key   schema.AccessKey
		want  error
	}{
		"its own":                   {token, mine, nil},
		"another":                   {token, other, keys.ErrSecret},
		"no key at all":             {token, schema.AccessKey{}, keys.ErrSecret},
		"one under another id":      {token, renamed, keys.ErrSecret},
		"a revoked one":             {token, revoked, keys.ErrRevoked},
		"one for something else":    {reader, read, keys.ErrScope},
		"no token at all":           {keys.Token{}, mine, keys.ErrSecret},
		"a stranger to the revoked": {reader, revoked, keys.ErrSecret},
	} {
		if err := c.token.Opens(c.key, schema.ScopeObserve); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

func TestTokensAreReadBackAsTheyWereWritten(t *testing.T) {
	t.Parallel()
	k, token := minted(t, schema.ScopeRead, "")
	text := token.Reveal()
	got, err := keys.Parse(text)
	if err != nil || got != token || got.ID() != k.ID || len(text) != 73 || !keys.ValidID(k.ID) {
		t.Errorf("%s is read as %s: %v", text, got, err)
	}
}

func TestWhatIsNoTokenIsRefusedWithoutBeingQuoted(t *testing.T) {
	t.Parallel()
	_, token := minted(t, schema.ScopeRead, "")
	good := token.Reveal()
	for _, text := range []string{"", "fsk_", "fsk__", "hunter2", good + "a", good[:72], strings.ToUpper(good), " " + good,
		good + "\n", strings.Replace(good, "fsk_", "fsk-", 1), good[:30] + "\x00" + good[31:], good[:30] + "é" + good[32:]} {
		_, err := keys.Parse(text)
		if !errors.Is(err, keys.ErrForm) || text != "" && len(text) > 5 && strings.Contains(err.Error(), text) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestSecretsDoNotPrint(t *testing.T) {
	t.Parallel()
	k, token := minted(t, schema.ScopeObserve, "paris-1")
	secret := token.Reveal()[len("fsk_")+len(k.ID)+1:]
	encoded, err := json.Marshal(map[string]any{"key": k, "token": token})
	if err != nil {
		t.Fatal(err)
	}
	all := fmt.Sprintf("%s %v %+v %#v %q %v %+v %s", token, token, token, token, token, k, []any{token}, encoded)
	if strings.Contains(all, secret) || !strings.Contains(all, k.ID) {
		t.Error(all)
	}
}

func TestMintRefusesKeysThatMakeNoSense(t *testing.T) {
	t.Parallel()
	for names, c := range map[string]struct {
		scope           schema.KeyScope
		observer, label string
	}{
		`scope "admin"`:    {"admin", "", ""},
		`observer ""`:      {schema.ScopeObserve, "", ""},
		`observer "a b"`:   {schema.ScopeObserve, "a b", ""},
		`observer "paris"`: {schema.ScopeRead, "paris", ""},
		"label":            {schema.ScopeRead, "", "\x1b[31m"},
		"label:":           {schema.ScopeRead, "", strings.Repeat("é", 101)},
	} {
		if _, _, err := keys.Mint(c.scope, c.observer, c.label); err == nil || !strings.Contains(err.Error(), names) {
			t.Errorf("%+v: %v, want an error that names %s", c, err, names)
		}
	}
}

func FuzzParse(f *testing.F) {
	_, token, _ := keys.Mint(schema.ScopeRead, "", "")
	f.Add(token.Reveal())
	f.Add("fsk_a_b")
	f.Fuzz(func(t *testing.T, text string) {
		if got, err := keys.Parse(text); err == nil && got.Reveal() != text {
			t.Errorf("%q is read as %q", text, got.Reveal())
		}
	})
}
