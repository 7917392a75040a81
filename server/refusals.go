package server

import (
	"slices"
	"sync"
	"time"

	"github.com/firstseen/firstseen/schema"
)

// Refusal is a payload that this server refused for good: a dead letter. A relay client is told and keeps it among its
// own; a bare one cannot be told, so this is the only trace of it.
type Refusal struct {
	At       time.Time  `json:"at"`
	Mode     string     `json:"mode"`               // relay or bare
	Remote   string     `json:"remote"`             // the client's address
	Observer string     `json:"observer,omitempty"` // of a relay client
	Frame    uint64     `json:"frame,omitempty"`    // of its session, counted from 1
	Chain    uint64     `json:"chain,omitempty"`    // as is the key, when the frame could be read
	Key      schema.Key `json:"key,omitempty"`
	Bytes    int        `json:"bytes"` // of the frame's content
	Code     string     `json:"code"`  // docs/WIRE.md, "Codes"
	Reason   string     `json:"reason"`
}

// keepRefusals is how many are remembered; older ones are forgotten, the metric and the log go on counting.
const keepRefusals = 256

// refusals remembers the newest refusals.
type refusals struct {
	mu   sync.Mutex // guards what follows
	ring [keepRefusals]Refusal
	n    int // ever noted
}

func (l *refusals) note(r Refusal) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ring[l.n%keepRefusals] = r
	l.n++
}

// Refusals returns the newest refusals since the start, at most 256, the newest first.
func (s *Server) Refusals() []Refusal {
	l := &s.refused
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make([]Refusal, 0, min(l.n, keepRefusals))
	for i := max(0, l.n-keepRefusals); i < l.n; i++ {
		out = append(out, l.ring[i%keepRefusals])
	}
	slices.Reverse(out)
	return out
}

// refuse makes a refusal known to whoever runs this server; the caller tells the client, if that can be.
func (s *Server) refuse(r Refusal) {
	r.At = s.opt.Now().UTC()
	s.metrics.refused.WithLabelValues(r.Code).Inc()
	s.refused.note(r)
	log := s.opt.Log.WithField("remote", r.Remote).WithField("reason", r.Code+": "+r.Reason)
	if r.Observer != "" {
		log = log.WithField("observer", r.Observer).WithField("frame", r.Frame)
	}
	if r.Key != "" {
		log = log.WithField("key", r.Key)
	}
	log.Warn(r.Mode + " payload refused")
}
