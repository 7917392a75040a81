package client

import "github.com/firstseen/firstseen/schema"

// reorgDepth is how many blocks a branch may go back before the follower gives up on it.
const reorgDepth = 128

// windowSize is how many finished hashes are kept: enough that a walk of reorgDepth parents meets one, with branches
// beside it.
const windowSize = 4 * reorgDepth

// window remembers the hashes of the blocks that were finished last. The oldest is forgotten for the newest.
type window struct {
	known map[schema.Hash]bool
	ring  []schema.Hash
	next  int
}

func newWindow() *window {
	return &window{known: make(map[schema.Hash]bool, windowSize), ring: make([]schema.Hash, windowSize)}
}

func (w *window) add(h schema.Hash) {
	if w.known[h] {
		return
	}
	delete(w.known, w.ring[w.next])
	w.ring[w.next] = h
	w.known[h] = true
	w.next = (w.next + 1) % windowSize
}

func (w *window) has(h schema.Hash) bool { return w.known[h] }
