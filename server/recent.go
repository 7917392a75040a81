package server

import "sync"

// recent remembers up to twice keepHeaders things. When the younger half is full it becomes the older one, which is
// forgotten.
type recent[K comparable, V any] struct {
	mu         sync.Mutex // guards what follows
	young, old map[K]V
}

func (m *recent[K, V]) find(key K) (V, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if known, ok := m.young[key]; ok {
		return known, true
	}
	known, ok := m.old[key]
	return known, ok
}

func (m *recent[K, V]) add(key K, known V) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.young == nil || len(m.young) >= keepHeaders {
		m.old, m.young = m.young, make(map[K]V)
	}
	m.young[key] = known
}
