package feed

import (
	"slices"
	"sync"
	"sync/atomic"
)

// group is the readers of one filter: each event is held against it once for all of them.
type group struct {
	filter Filter
	subs   []*Subscription // guarded by hub.mu

	mu      sync.Mutex // guards what follows
	events  []*Event   // what the filter let through, at least the last hub.buffer of it
	base    uint64     // how many events came before events[0]
	through Cursor     // up to where events are complete
}

// hub hands events to readers. Events that it published lately stay at hand, so that a reader who is not far behind, or
// comes back, goes on from memory and from shared encodings.
type hub struct {
	buffer    int          // events that a reader may be behind
	keep      int          // recent events
	addressed atomic.Int64 // subscriptions that ask for addresses; each counts from before it joins until it has left

	mu     sync.Mutex        // guards what follows; taken before a group's
	at     Cursor            // of the last event published
	recent []*Event          // without a hole; ends at at
	heads  map[uint64]uint64 // by chain
	groups map[string]*group
	turn   *Event // tells that the feed went on from another place; nil while it never did
}

func newHub(buffer, keep int) *hub {
	return &hub{buffer: buffer, keep: keep, heads: map[uint64]uint64{}, groups: map[string]*group{}}
}

func (h *hub) cursor() Cursor {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.at
}

// now is where the feed is, and how it was last cut off.
func (h *hub) now() (Cursor, *Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.at, h.turn
}

// publish hands events to all readers. They follow on what was published before. It returns false, and has done nothing,
// if somebody asks for addresses that are not known of them.
func (h *hub) publish(events []*Event) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.addressed.Load() > 0 && slices.ContainsFunc(events, func(e *Event) bool { return !e.addressed }) {
		return false
	}
	h.hand(events)
	return true
}

// hand needs mu.
func (h *hub) hand(events []*Event) {
	for _, e := range events {
		h.follow(e)
		if e.Missing != nil {
			h.recent = nil // what came before does not lead here
			continue
		}
		h.recent = append(h.recent, e)
	}
	if extra := len(h.recent) - h.keep; extra > 0 {
		h.recent = slices.Delete(h.recent, 0, extra)
	}
	h.at = events[len(events)-1].Cursor()
	for _, g := range h.groups {
		if g.append(events, h.at, h.buffer) {
			for _, s := range g.subs {
				s.poke()
			}
		}
	}
}

// follow finds out whether an event makes its block the chain's head: one that joins the branch above all that are on
// it. Ancestors that are filled in later join it below.
func (h *hub) follow(e *Event) {
	if e.Effect == NoEffect || e.Number == nil {
		return
	}
	head, known := h.heads[e.Chain]
	switch n := *e.Number; {
	case e.Effect == Apply && (!known || n > head):
		h.heads[e.Chain], e.Head = n, true
	case e.Effect == Undo && known && n <= head && n > 0:
		h.heads[e.Chain] = n - 1
	}
}

// append adds what the filter lets through and tells whether that was anything.
func (g *group) append(events []*Event, through Cursor, buffer int) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	before := len(g.events)
	for _, e := range events {
		if g.filter.match(e) {
			g.events = append(g.events, e)
		}
	}
	g.through = through
	added := len(g.events) > before
	if extra := len(g.events) - buffer; extra > buffer { // now and then, so that it costs little
		g.events = slices.Delete(g.events, 0, extra)
		g.base += uint64(extra)
	}
	return added
}

// join makes a reader live if memory reaches back to its place; what it has not seen of that becomes its backlog.
func (h *hub) join(s *Subscription) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	backlog, ok := h.since(s)
	if !ok {
		return false
	}
	key := s.filter.key()
	g := h.groups[key]
	if g == nil {
		g = &group{filter: s.filter, through: h.at}
		h.groups[key] = g
	}
	g.subs = append(g.subs, s)
	g.mu.Lock()
	defer g.mu.Unlock()
	s.group, s.pos, s.backlog = g, g.base+uint64(len(g.events)), backlog
	if len(backlog) == 0 && s.after.Seq <= h.at.Seq {
		s.after = h.at
	}
	return true
}

// since returns what the reader has not seen and its filter lets through, or false if memory does not reach that far or
// does not know the addresses that the filter asks for.
func (h *hub) since(s *Subscription) ([]*Event, bool) {
	if s.turn != h.turn {
		at := h.turn.Cursor()
		at.Seq = min(at.Seq, s.after.Seq) // a reader of history has not come that far
		s.turn, s.after = h.turn, at
		s.pending = []*Event{missing(at, *h.turn.Missing)}
		return nil, false
	}
	if s.after.Seq >= h.at.Seq {
		return nil, true // the tailer may be behind another instance, from which the reader came
	}
	if len(h.recent) == 0 || h.recent[0].Seq > s.after.Seq+1 {
		return nil, false
	}
	var backlog []*Event
	for _, e := range h.recent[s.after.Seq+1-h.recent[0].Seq:] {
		if len(s.filter.Addresses) > 0 && !e.addressed {
			return nil, false
		}
		if s.filter.match(e) {
			backlog = append(backlog, e)
		}
	}
	return backlog, true
}

// leave forgets a reader.
func (h *hub) leave(s *Subscription) {
	h.mu.Lock()
	defer h.mu.Unlock()
	g := s.group
	if g == nil {
		return
	}
	i := slices.Index(g.subs, s)
	if i < 0 {
		return
	}
	last := len(g.subs) - 1
	g.subs[i], g.subs[last] = g.subs[last], nil
	g.subs = g.subs[:last]
	if last == 0 {
		delete(h.groups, g.filter.key())
	}
}

// begin is where the hub starts from, before any reader.
func (h *hub) begin(at Cursor) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.at, h.recent = at, nil
}

// restart tells every reader that the feed goes on from another place than where it was.
func (h *hub) restart(m *Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	clear(h.heads)
	h.turn = m
	h.hand([]*Event{m})
}
