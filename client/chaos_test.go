package client

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/firstseen/firstseen/internal/wire"
)

// TestNothingIsLostWhateverHappens grows a chain at random, with reorgs, while nodes fail and the server drops
// connections and sends observers away. In the end the server has every block of the chain, none before its parent.
func TestNothingIsLostWhateverHappens(t *testing.T) {
	t.Parallel()
	for seed := range uint64(8) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			r := rand.New(rand.NewPCG(seed, 0))
			d := draw(t).line("a", 0, 8, "")
			nodes := []*fakeNode{serveDrawing(t, d), serveDrawing(t, d)}
			s := serveRelay(t, d)
			s.has(0, "a0")
			s.scripted(unreliable(rand.New(rand.NewPCG(seed, 1))))
			c := start(t, []string{nodes[0].URL, nodes[1].URL}, []string{s.addr()}, func(o *Options) { o.OutboxEntries = 6 })
			branch := names("a", 0, 8)
			for step := range 40 {
				branch = grow(d, r, branch, step)
				flaw := []fault{nil, nil, says(500, ""), says(200, "<html>"), rpcError("-32000", "busy")}[r.IntN(5)]
				nodes[r.IntN(2)].misbehave(flaw)
				pause := time.After(time.Duration(r.IntN(8)) * time.Millisecond)
				wait(t, "a moment", func() bool {
					select {
					case <-pause:
						return true
					default:
						return false
					}
				})
			}
			for _, n := range nodes {
				n.misbehave(nil)
			}
			s.scripted(nil)
			c.at(d, branch[len(branch)-1])
			wait(t, "outbox empty", func() bool { return c.Stats().Waiting == 0 })
			complete(t, s, d, branch)
		})
	}
}

// grow extends the branch, after cutting some of it off at times, and makes its end the head.
func grow(d *drawing, r *rand.Rand, branch []string, step int) []string {
	letter := "s" + itoa(step) + "-"
	if r.IntN(3) == 0 {
		branch = branch[:len(branch)-1-r.IntN(5)]
	}
	parent := branch[len(branch)-1]
	from := len(branch)
	to := from + r.IntN(6)
	if r.IntN(8) == 0 {
		to += 30
	}
	d.line(letter, uint64(from), uint64(to), parent)
	return append(slices.Clone(branch), names(letter, from, to)...)
}

// unreliable is a server that drops one frame in ten with its connection, and sends away one in thirty.
func unreliable(r *rand.Rand) func(p *peer, frame []byte) bool {
	return func(p *peer, frame []byte) bool {
		p.server.mu.Lock()
		dice := r.IntN(30)
		p.server.mu.Unlock()
		switch {
		case frame[0] != wire.TypeData:
			return false
		case dice < 3:
			return p.drop(nil)
		case dice == 3:
			return p.drop(wire.AppendFatal(nil, wire.Fatal{Retry: true, Code: wire.CodeStore, Text: "not now"}))
		}
		return false
	}
}

// complete checks that the server got the whole branch, and nothing before its parent.
func complete(t *testing.T, s *fakeServer, d *drawing, branch []string) {
	t.Helper()
	got := map[string]bool{"a0": true}
	for _, name := range s.blocks() {
		d.mu.Lock()
		parent := d.names[d.blocks[name].ParentHash]
		d.mu.Unlock()
		if !got[parent] {
			t.Errorf("%s came before its parent %s", name, parent)
		}
		got[name] = true
	}
	for _, name := range branch {
		if !got[name] {
			t.Errorf("%s never came", name)
		}
	}
}
