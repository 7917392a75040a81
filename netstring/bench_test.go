package netstring

import (
	"bytes"
	"fmt"
	"testing"
)

// cycle repeats a stream for ever, in reads as large as the caller's room.
type cycle struct {
	stream []byte
	at     int
}

func (c *cycle) Read(p []byte) (int, error) {
	n := copy(p, c.stream[c.at:])
	c.at += n
	if c.at == len(c.stream) {
		c.at = 0
	}
	return n, nil
}

func frames(size int) *cycle {
	frame := Append(nil, bytes.Repeat([]byte("x"), size))
	return &cycle{stream: bytes.Repeat(frame, max(1, 1<<18/len(frame)))}
}

var benchSizes = []int{16, 450, 4 << 10, 128 << 10}

// BenchmarkDecode/memcpy is the ceiling: copying as many bytes once, which a stream's Read cannot avoid.
func BenchmarkDecode(b *testing.B) {
	for _, size := range benchSizes {
		b.Run(fmt.Sprintf("memcpy/%d", size), func(b *testing.B) {
			src, dst := make([]byte, size), make([]byte, size)
			b.SetBytes(int64(size))
			for b.Loop() {
				copy(dst, src)
			}
		})
		b.Run(fmt.Sprintf("contiguous/%d", size), func(b *testing.B) {
			d := NewDecoder(nil, 4<<20)
			d.buf = frames(size).stream
			d.end = len(d.buf)
			b.SetBytes(int64(EncodedLen(size)))
			b.ReportAllocs()
			for b.Loop() {
				if d.pos == d.end {
					d.pos = 0
				}
				if _, err := d.Next(); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("stream/%d", size), func(b *testing.B) {
			d := NewDecoder(frames(size), 4<<20)
			b.SetBytes(int64(EncodedLen(size)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := d.Next(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkAppend(b *testing.B) {
	for _, size := range benchSizes {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			content := make([]byte, size)
			dst := make([]byte, 0, EncodedLen(size))
			b.SetBytes(int64(EncodedLen(size)))
			b.ReportAllocs()
			for b.Loop() {
				dst = Append(dst[:0], content)
			}
		})
	}
}
