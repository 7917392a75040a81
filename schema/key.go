package schema

import "time"

// KeyScope is what an access key allows.
type KeyScope string

// The scopes of access keys.
const (
	ScopeObserve KeyScope = "observe" // to relay blocks to servers under the name of the key's observer
	ScopeRead    KeyScope = "read"    // to read what the stats API keeps from strangers
)

// AccessKey is what the store keeps of a key that was given out. The secret itself is not among it.
type AccessKey struct {
	ID        string     `json:"id"` // public: it names the key in lists and logs
	Scope     KeyScope   `json:"scope"`
	Observer  string     `json:"observer,omitempty"` // whose it is; empty unless the scope is ScopeObserve
	Label     string     `json:"label,omitempty"`    // for people
	CreatedAt time.Time  `json:"created_at"`
	RevokedAt *time.Time `json:"revoked_at"` // nil while the key is good
	Digest    Hash       `json:"-"`          // SHA-256 of the secret
}
