package replica

import (
	"fmt"

	"github.com/firstseen/firstseen/schema"
)

// Names are the keys in the object store of what one role of an environment ships. Both are checked by Validate.
type Names struct {
	Env  string // the deployment
	Role string // the writer's: several may ship to one environment, each from its own database
}

// Validate says what is wrong with the names; both must be schema.ValidName, and no number, so that no role is taken for
// a chain.
func (n Names) Validate() error {
	for what, s := range map[string]string{"environment": n.Env, "role": n.Role} {
		if !schema.ValidName(s) || s == "." || s == ".." {
			return fmt.Errorf("%s %q: must be 1 to 64 of A-Z a-z 0-9 . _ -", what, s)
		}
	}
	if isNumber(n.Role) {
		return fmt.Errorf("role %q: must not be a number, which would look like a chain", n.Role)
	}
	return nil
}

func isNumber(s string) bool {
	for _, r := range s {
		if r < '0' || r > '9' {
			return false
		}
	}
	return true
}

// Writer is the key of the checkpoint, which is changed by compare-and-swap only.
func (n Names) Writer() string { return n.Env + "/" + n.Role + "/writer" }

// Index is the key of the list of bulk segments, changed by compare-and-swap.
func (n Names) Index() string { return n.Env + "/" + n.Role + "/index" }

// Side is the key of what no row of the feed tells.
func (n Names) Side() string { return n.Env + "/" + n.Role + "/side" }

// Feed is the key of the live segment whose first row has this seq. It is never changed; once a bulk segment holds its
// rows it is deleted.
func (n Names) Feed(first uint64) string { return fmt.Sprintf("%s%012d", n.FeedPrefix(), first) }

// FeedPrefix is what the keys of all live segments begin with.
func (n Names) FeedPrefix() string { return n.Env + "/" + n.Role + "/feed/" }

// Bulk is the key of the bulk segment whose first row has this seq.
func (n Names) Bulk(first uint64) string {
	return fmt.Sprintf("%s/%s/bulk/%012d", n.Env, n.Role, first)
}

// Block is the key of a record: a block by its hash, a bare payload by its SHA-256.
func (n Names) Block(chain uint64, key schema.Key) string {
	return fmt.Sprintf("%s/%d/%s/block/%s", n.Env, chain, n.Role, key)
}

// Header is the key of a block's header by height: heights sort, and within a height the order of the feed.
func (n Names) Header(chain, number, seq uint64, key schema.Key) string {
	return fmt.Sprintf("%s%012d/%012d/%s", n.HeaderPrefix(chain), number, seq, key)
}

// HeaderPrefix is what the keys of a chain's headers begin with.
func (n Names) HeaderPrefix(chain uint64) string {
	return fmt.Sprintf("%s/%d/%s/header/", n.Env, chain, n.Role)
}

// HeaderHeight is what the keys of the headers of a height begin with; listing after it starts at that height.
func (n Names) HeaderHeight(chain, number uint64) string {
	return fmt.Sprintf("%s%012d/", n.HeaderPrefix(chain), number)
}

// ParseHeader takes the key of a header apart.
func (n Names) ParseHeader(chain uint64, name string) (number, seq uint64, key schema.Key, err error) {
	prefix := n.HeaderPrefix(chain)
	var digits string
	if len(name) <= len(prefix) || name[:len(prefix)] != prefix {
		return 0, 0, "", fmt.Errorf("header key %q: does not begin with %s", name, prefix)
	}
	if _, err := fmt.Sscanf(name[len(prefix):], "%d/%d/%s", &number, &seq, &digits); err != nil {
		return 0, 0, "", fmt.Errorf("header key %q: %w", name, err)
	}
	hash, err := schema.ParseHash(digits)
	if err != nil {
		return 0, 0, "", fmt.Errorf("header key %q: %w", name, err)
	}
	if key = hash.Key(); n.Header(chain, number, seq, key) != name {
		return 0, 0, "", fmt.Errorf("header key %q: not as it would be written", name)
	}
	return number, seq, key, nil
}
