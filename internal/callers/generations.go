package callers

import (
	"sync"
	"time"
)

// Generations remembers values by caller for between one and two periods after their last use. It holds two maps of at
// most max entries: when the younger is full or a period old, it becomes the elder and the elder is forgotten. So a
// flood of callers costs bounded memory, and at worst makes others be forgotten early.
type Generations[V any] struct {
	max    int
	period time.Duration
	now    func() time.Time

	mu             sync.Mutex // guards what follows
	younger, elder map[string]*V
	turned         time.Time
}

// NewGenerations remembers values for at least period, of twice size callers at most.
func NewGenerations[V any](size int, period time.Duration, now func() time.Time) *Generations[V] {
	return &Generations[V]{max: size, period: period, now: now, younger: map[string]*V{}, turned: now()}
}

// Use calls f with the value of key while nobody else uses any. It starts from the zero value if create, and does
// nothing when there is none otherwise.
func (g *Generations[V]) Use(key string, create bool, f func(v *V, now time.Time)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.now()
	if age := now.Sub(g.turned); age >= g.period || len(g.younger) >= g.max {
		g.elder, g.younger, g.turned = g.younger, make(map[string]*V), now
		if age >= 2*g.period {
			g.elder = nil
		}
	}
	v := g.younger[key]
	if v == nil {
		if v = g.elder[key]; v == nil {
			if !create {
				return
			}
			v = new(V)
		}
		g.younger[key] = v
	}
	f(v, now)
}
