package replica

import (
	"context"
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/firstseen/firstseen/internal/objects"
)

// shelf is an object store in memory, in which operations can be made to fail.
type shelf struct {
	mu   sync.Mutex
	held map[string]string
	ops  int
	// fault decides on an operation: before it is done, and again after it with done set.
	fault func(op int, verb, key string, done bool) error
}

func newShelf() *shelf { return &shelf{held: map[string]string{}} }

// try does one operation.
func (s *shelf) try(verb, key string, do func() error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ops++
	op := s.ops
	if s.fault != nil {
		if err := s.fault(op, verb, key, false); err != nil {
			return err
		}
	}
	if err := do(); err != nil {
		return err
	}
	if s.fault != nil {
		return s.fault(op, verb, key, true)
	}
	return nil
}

func shelfTag(body string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(body))) }

func (s *shelf) Get(_ context.Context, key string) (body []byte, tag string, err error) {
	err = s.try("get", key, func() error {
		held, ok := s.held[key]
		if !ok {
			return fmt.Errorf("get %s: %w", key, objects.ErrNotFound)
		}
		body, tag = []byte(held), shelfTag(held)
		return nil
	})
	return body, tag, err
}

func (s *shelf) Create(_ context.Context, key string, body []byte) error {
	return s.try("create", key, func() error {
		if err := objects.CheckKey(key); err != nil {
			return err
		}
		if _, ok := s.held[key]; ok {
			return fmt.Errorf("create %s: %w", key, objects.ErrExists)
		}
		s.held[key] = string(body)
		return nil
	})
}

func (s *shelf) Replace(_ context.Context, key string, body []byte, tag string) (string, error) {
	err := s.try("replace", key, func() error {
		held, ok := s.held[key]
		if ok != (tag != "") || ok && shelfTag(held) != tag {
			return fmt.Errorf("replace %s: %w", key, objects.ErrConflict)
		}
		s.held[key] = string(body)
		return nil
	})
	return shelfTag(string(body)), err
}

func (s *shelf) Delete(_ context.Context, key string) error {
	return s.try("delete", key, func() error {
		delete(s.held, key)
		return nil
	})
}

func (s *shelf) List(_ context.Context, prefix, after string, limit int) (keys []string, err error) {
	err = s.try("list", prefix, func() error {
		for _, key := range slices.Sorted(maps.Keys(s.held)) {
			if strings.HasPrefix(key, prefix) && key > after && len(keys) < limit {
				keys = append(keys, key)
			}
		}
		return nil
	})
	return keys, err
}

// change overwrites an object, as damage does.
func (s *shelf) change(key string, change func(string) string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held[key] = change(s.held[key])
}

// flip changes a bit in the middle.
func flip(body string) string {
	b := []byte(body)
	b[len(b)/2] ^= 4
	return string(b)
}

func (s *shelf) keys(prefix string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var keys []string
	for _, key := range slices.Sorted(maps.Keys(s.held)) {
		if strings.HasPrefix(key, prefix) {
			keys = append(keys, key)
		}
	}
	return keys
}
