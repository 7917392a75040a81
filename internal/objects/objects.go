// Package objects keeps immutable objects, and the few that change by compare-and-swap, where the writer's process and
// its replicas both reach them: in a folder, or in a bucket that speaks the S3 API.
package objects

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Store holds objects under keys. A key is what CheckKey allows, and no key is also a folder of another: not "a" beside
// "a/b". An object appears whole or not at all, whatever crashes. Every call ends within Options.Timeout.
// All methods may be called at once, by any number of processes.
type Store interface {
	// Get returns an object and the tag of what it holds now. It fails with ErrNotFound, and with ErrTooLarge before
	// more than Options.Limit bytes are in memory.
	Get(ctx context.Context, key string) (body []byte, tag string, err error)
	// Create stores an object that is durable when it returns. It fails with ErrExists if there is one of that key,
	// which is durable then, too. Of any number of calls for a key, one succeeds.
	Create(ctx context.Context, key string, body []byte) error
	// Replace puts body in the place of the object that has tag; the empty tag stands for none yet. It returns the new
	// tag, and fails with ErrConflict if the tag is another's by now. Of any number of calls with a tag, one succeeds.
	Replace(ctx context.Context, key string, body []byte, tag string) (newTag string, err error)
	// Delete takes an object away, whatever it holds. It is no error if there is none.
	Delete(ctx context.Context, key string) error
	// List returns the keys that begin with prefix and come after the key named, in ascending order of their bytes, at
	// most limit of them.
	List(ctx context.Context, prefix, after string, limit int) ([]string, error)
	// Close releases what the store holds. Calls that run meanwhile may fail.
	Close() error
	// String names the place, without secrets.
	String() string
}

// What callers decide on. Every other error means that the store could not be asked, or refused: to be tried again
// later, and told.
var (
	ErrNotFound = errors.New("no such object")
	ErrExists   = errors.New("object exists already")
	ErrConflict = errors.New("object was changed by another")
	ErrTooLarge = errors.New("object is larger than allowed")
	// ErrUnconditional is a store that overwrites what it was told not to. No writer may use it.
	ErrUnconditional = errors.New("the object store does not honour conditional writes (If-None-Match, If-Match)")
)

// Options of Open. The zero value is a reader's.
type Options struct {
	Writer     bool                  // creates the folder of a file store, and sweeps what crashed writers left there
	Limit      int64                 // most bytes of an object that Get returns; 0: 256 MiB
	Timeout    time.Duration         // of each call, with its own few retries; 0: 30 s
	Key        string                // access key id of S3; empty: the AWS SDK looks for credentials where it always does
	Secret     string                // and the key itself
	Registerer prometheus.Registerer // nil: no metrics
}

const (
	defaultLimit   = 256 << 20
	defaultTimeout = 30 * time.Second
)

// Open opens the store at a URL, as CheckURL wants it, without asking it anything over a network.
func Open(ctx context.Context, url string, o Options) (Store, error) {
	place, err := parse(url)
	if err != nil {
		return nil, err
	}
	if o.Limit == 0 {
		o.Limit = defaultLimit
	}
	if o.Timeout == 0 {
		o.Timeout = defaultTimeout
	}
	var s Store
	if place.bucket == "" {
		s, err = openFolder(place.folder, o)
	} else {
		s, err = openS3(ctx, place, o)
	}
	if err != nil {
		return nil, err
	}
	return measure(s, o.Registerer)
}

// mostKey leaves room for a prefix: S3 takes 1024 bytes.
const mostKey = 512

// CheckKey tells what is wrong with a key: parts of A-Z a-z 0-9 . _ - with / between them, none of them empty, "." or
// "..", at most 512 bytes in all.
func CheckKey(key string) error {
	if key == "" || len(key) > mostKey {
		return fmt.Errorf("key of %d bytes: use 1 to %d", len(key), mostKey)
	}
	for part := range strings.SplitSeq(key, "/") {
		if part == "" || part == "." || part == ".." || strings.ContainsFunc(part, foreign) {
			return fmt.Errorf("key %q: use parts of A-Z a-z 0-9 . _ - with / between them, none of which is empty, . or .. alone", key)
		}
	}
	return nil
}

func foreign(r rune) bool {
	switch {
	case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '.', r == '_', r == '-':
		return false
	}
	return true
}

// checkPrefix allows the beginning of any key.
func checkPrefix(prefix string) error {
	if whole := strings.TrimSuffix(prefix, "/"); whole != "" {
		return CheckKey(whole)
	}
	if prefix == "" {
		return nil
	}
	return fmt.Errorf("prefix %q is no beginning of a key", prefix)
}
