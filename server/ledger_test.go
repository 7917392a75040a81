package server

import (
	"bytes"
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"github.com/firstseen/firstseen/internal/wire"
	"github.com/firstseen/firstseen/netstring"
	"github.com/firstseen/firstseen/schema"
)

// listener reads what a ledger tells as a client does: it counts, and it is strict about the order.
type listener struct {
	mark uint64
	told []string // per frame: "f", "d" or "N <code>"
}

func (c *listener) hear(t *rapid.T, frames []byte) {
	dec := netstring.NewDecoder(bytes.NewReader(frames), wire.MaxFrame)
	for dec.Wait() == nil {
		content, err := dec.Next()
		if err != nil {
			t.Fatal(err)
		}
		switch wire.Type(content) {
		case wire.TypeAck:
			n, flags, err := wire.ParseAck(content)
			if err != nil || n != c.mark+uint64(len(flags)) {
				t.Fatalf("%q after mark %d: %v", content, c.mark, err)
			}
			for _, f := range flags {
				c.told = append(c.told, string(f))
			}
			c.mark = n
		case wire.TypeRefusal:
			r, err := wire.ParseRefusal(content)
			if err != nil || r.N != c.mark+1 {
				t.Fatalf("%q after mark %d: %v", content, c.mark, err)
			}
			c.told = append(c.told, "N "+string(r.Code))
			c.mark = r.N
		default:
			t.Fatalf("told %q", content)
		}
	}
}

// model is the ledger as a list of frames: what each was settled as, empty while it is not.
type model []string

func (m model) prefix() int {
	for i, s := range m {
		if s == "" {
			return i
		}
	}
	return len(m)
}

func TestLedgerTellsEveryFrameOnceInOrder(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var (
			l      ledger
			m      model
			sizes  []int
			client listener
			room   []byte
		)
		take := func(t *rapid.T) {
			var frames []byte
			frames, room = l.take(nil, room)
			client.hear(t, frames)
			if want := m.prefix(); int(client.mark) != want {
				t.Fatalf("told up to %d, settled up to %d", client.mark, want)
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) {
				size := rapid.IntRange(1, wire.WindowBytes).Draw(t, "size")
				if !l.admits(size) {
					t.Skip("window is full")
				}
				if n := l.add(size); n != uint64(len(m)+1) {
					t.Fatalf("frame %d got number %d", len(m)+1, n)
				}
				m, sizes = append(m, ""), append(sizes, size)
			},
			"add small": func(t *rapid.T) {
				for range rapid.IntRange(1, 100).Draw(t, "count") {
					if l.admits(1) {
						l.add(1)
						m, sizes = append(m, ""), append(sizes, 1)
					}
				}
			},
			"settle": func(t *rapid.T) {
				var open []int
				for i, s := range m {
					if s == "" {
						open = append(open, i)
					}
				}
				if len(open) == 0 {
					t.Skip("nothing is open")
				}
				i := rapid.SampledFrom(open).Draw(t, "frame")
				m[i] = settleOne(&l, uint64(i+1), rapid.SampledFrom([]string{"f", "d", "N data"}).Draw(t, "as"))
			},
			"settle all": func(*rapid.T) {
				for i := len(m) - 1; i >= 0; i-- {
					if m[i] == "" {
						m[i] = settleOne(&l, uint64(i+1), "f")
					}
				}
			},
			"take": take,
			"": func(t *rapid.T) {
				checkLedger(t, &l, m, sizes, int(client.mark))
			},
		})
		take(t)
		for i, told := range client.told {
			if told != m[i] {
				t.Fatalf("frame %d told as %q, settled as %q", i+1, told, m[i])
			}
		}
	})
}

func settleOne(l *ledger, n uint64, as string) string {
	switch as {
	case "f":
		l.settle(n, schema.First, nil)
	case "d":
		l.settle(n, schema.Duplicate, nil)
	default:
		l.settle(n, schema.Refused, &wire.Refusal{N: n, Code: wire.CodeData, Text: "no"})
	}
	return as
}

func checkLedger(t *rapid.T, l *ledger, m model, sizes []int, told int) {
	due, size := 0, 0
	for i := range m {
		if m[i] == "" {
			due++
		}
		if i >= told {
			size += sizes[i]
		}
	}
	if l.due != due || l.bytes != size || l.outstanding() != len(m)-told {
		t.Fatalf("due %d, bytes %d, outstanding %d; want %d, %d, %d", l.due, l.bytes, l.outstanding(), due, size, len(m)-told)
	}
	if l.outstanding() > wire.WindowFrames || l.bytes > wire.WindowBytes && l.outstanding() > 1 {
		t.Fatalf("%d frames, %d bytes are open", l.outstanding(), l.bytes)
	}
	if room := cap(l.open); room > 4*wire.WindowFrames || l.outstanding() == 0 && told > 0 && room > keepEntries && l.head != 0 {
		t.Fatalf("room for %d entries", room)
	}
}

func TestLedgerWindow(t *testing.T) {
	t.Parallel()
	var l ledger
	if !l.admits(wire.WindowBytes + 1) {
		t.Error("one frame is always allowed")
	}
	l.add(wire.WindowBytes - 1)
	if !l.admits(1) || l.admits(2) {
		t.Error("the window is WindowBytes, not more or less")
	}
	l = ledger{}
	for range wire.WindowFrames {
		if !l.admits(1) {
			t.Fatal("refused within WindowFrames")
		}
		l.add(1)
	}
	if l.admits(1) {
		t.Error("admitted beyond WindowFrames")
	}
}

func TestIdleLedgerKeepsLittle(t *testing.T) {
	t.Parallel()
	var l ledger
	for range wire.WindowFrames {
		l.settle(l.add(1), schema.First, nil)
	}
	frames, _ := l.take(nil, nil)
	if cap(l.open) > keepEntries {
		t.Errorf("room for %d entries", cap(l.open))
	}
	if want := fmt.Sprintf("A%d ", wire.WindowFrames); !bytes.Contains(frames, []byte(want)) || bytes.Count(frames, []byte("A")) != 1 {
		t.Errorf("told %.40q…, want one ack", frames)
	}
}
