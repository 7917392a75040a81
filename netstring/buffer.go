package netstring

import (
	"math/bits"
	"sync"
)

// A decoder's buffer goes through three stages. Between frames it is the 64 bytes inside the decoder, which hold short
// frames entirely. A longer frame takes a pooled buffer of 4 KiB, which doubles when it is full, so that memory follows
// what arrives, not what is announced; as long as reads keep filling it, it also grows up to readAhead, so that a busy
// stream takes few reads. Once nothing is left in it, it goes back to the pool.
const (
	leastBuffer = 4 << 10
	readAhead   = 32 << 10
	slack       = 32 // room for header and comma, so that content of a power of two does not need twice its size
	classes     = 16 // 4 KiB to 128 MiB; larger buffers are not pooled
)

// box carries a buffer through a pool; a bare slice would be allocated again at each Put.
type box struct{ b []byte }

// pools holds idle buffers by size class. They are shared by all decoders on purpose: thousands of connections that
// seldom speak need only as many buffers as speak at once.
var pools [classes]sync.Pool

// class returns the smallest size class whose buffers hold n bytes and slack.
func class(n int) int {
	return max(0, bits.Len(uint(n-1))-bits.Len(leastBuffer-1))
}

// takeBox returns a buffer for n bytes and slack, with whatever its last user left in it.
func takeBox(n int) *box {
	c := class(n)
	if c >= classes {
		return &box{make([]byte, n+slack)}
	}
	if b, ok := pools[c].Get().(*box); ok {
		return b
	}
	return &box{make([]byte, leastBuffer<<c+slack)}
}

func putBox(b *box) {
	if c := class(len(b.b) - slack); c < classes {
		pools[c].Put(b)
	}
}

// idle gives up the buffer, in which nothing is left to read.
func (d *Decoder) idle() {
	d.base += int64(d.end)
	d.pos, d.end = 0, 0
	d.swap(nil)
}

// makeRoom makes room for at least one byte more of the frame that begins at pos, which takes need bytes in all, or 0
// while that is not known.
func (d *Decoder) makeRoom(need int) {
	held, size := d.end-d.pos, len(d.buf)
	switch {
	case d.box == nil && (d.filled || need > size):
		d.move(takeBox(leastBuffer))
	case held == size, d.filled && size < readAhead:
		d.move(takeBox(2 * (size - slack)))
	case size > readAhead+slack && need <= readAhead:
		d.move(takeBox(readAhead)) // a large frame has passed
	case d.pos > 0:
		d.move(d.box)
	}
}

// move takes what is unread to the start of another buffer, or of the same one.
func (d *Decoder) move(to *box) {
	from := d.buf
	dst := d.small[:]
	if to != nil {
		dst = to.b
	}
	n := copy(dst, from[d.pos:d.end])
	d.base += int64(d.pos)
	d.pos, d.end = 0, n
	d.swap(to)
}

// swap makes b the buffer, nil meaning the small one, and pools the one before.
func (d *Decoder) swap(b *box) {
	if old := d.box; old != nil && old != b {
		putBox(old)
	}
	d.box = b
	if b == nil {
		d.buf = d.small[:]
	} else {
		d.buf = b.b
	}
}
