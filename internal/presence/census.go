package presence

import "context"

// Names that a census gives connections which have none of their own. No observer can be called so.
const (
	BareConnections = "(bare)"      // of clients that do not name themselves
	UndecidedOnes   = "(undecided)" // without a complete first frame
)

// Census is what one server knows of its open connections at one moment. Unlike a beat it was asked for.
type Census struct {
	Server    string         `json:"server"`
	Boot      string         `json:"boot"` // of the Publisher's beats
	Count     int            `json:"count"`
	Observers map[string]int `json:"observers"` // connections by observer, or by one of the names above
	Addresses map[string]int `json:"addresses"` // connections by the client's address, without its port
}

// Asker asks one server for its census. An error is why there is none, in words that may be shown to anybody.
type Asker interface {
	Ask(ctx context.Context, s Server) (Census, error)
}
