package netstring

import (
	"bytes"
	"errors"
	"io"
	"runtime"
	"strings"
	"testing"
)

// The tests in this file measure allocations of the whole process, so that none of them runs in parallel.

func TestSteadyStateDoesNotAllocate(t *testing.T) {
	if raceEnabled {
		t.Skip("needs a build without -race, under which sync.Pool drops buffers at random")
	}
	for name, size := range map[string]int{"small": 16, "ordinary": 450, "beyond the read-ahead": 100_000} {
		t.Run(name, func(t *testing.T) {
			d := NewDecoder(frames(size), 4<<20)
			next := func() {
				if _, err := d.Next(); err != nil {
					t.Fatal(err)
				}
			}
			for range 3000 {
				next()
			}
			if n := testing.AllocsPerRun(3000, next); n != 0 {
				t.Errorf("%v allocations per frame", n)
			}
		})
	}
}

func TestEncodingIntoRoomDoesNotAllocate(t *testing.T) {
	content := make([]byte, 450)
	dst := make([]byte, 0, EncodedLen(len(content)))
	if n := testing.AllocsPerRun(1000, func() { dst = Append(dst[:0], content) }); n != 0 {
		t.Errorf("%v allocations per frame", n)
	}
}

// allocated returns how many bytes f allocates, alive or not.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

func TestHugeHeaderAllocatesNothing(t *testing.T) {
	const rounds = 1000
	for name, header := range map[string]string{"2 GiB": "2147483648:", "twenty digits": "18446744073709551619:"} {
		t.Run(name, func(t *testing.T) {
			bytes := allocated(func() {
				for range rounds {
					if _, err := NewDecoder(strings.NewReader(header), 4<<20).Next(); !errors.Is(err, ErrTooLarge) {
						t.Fatal(err)
					}
				}
			})
			// The decoder, the reader and the error themselves; a test binary's own noise on top.
			if per := bytes / rounds; per > 512 {
				t.Errorf("%d bytes per refused header", per)
			}
		})
	}
}

func TestAnnouncedLengthIsNotAllocated(t *testing.T) {
	const rounds = 100
	bytes := allocated(func() {
		for range rounds {
			_, err := NewDecoder(strings.NewReader("4194304:abc"), 4<<20).Next()
			if !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Fatal(err)
			}
		}
	})
	if per := bytes / rounds; per > 2*leastBuffer {
		t.Errorf("%d bytes for 3 bytes of content", per)
	}
}

// slowly hands out at most step bytes a read, and looks at the decoder's buffer each time.
type slowly struct {
	stream []byte
	step   int
	look   func(arrived int)
	sent   int
}

func (s *slowly) Read(p []byte) (int, error) {
	s.look(s.sent)
	n := copy(p[:min(len(p), s.step)], s.stream[s.sent:])
	s.sent += n
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

func TestBufferFollowsWhatArrives(t *testing.T) {
	content := bytes.Repeat([]byte("x"), 4<<20)
	r := &slowly{stream: Append(nil, content), step: 3000}
	d := NewDecoder(r, len(content))
	r.look = func(arrived int) {
		if limit := 2*arrived + leastBuffer + slack; len(d.buf) > limit {
			t.Fatalf("%d bytes held after %d arrived", len(d.buf), arrived)
		}
	}
	got, err := d.Next()
	if err != nil || !bytes.Equal(got, content) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	if len(d.buf) > len(content)+slack {
		t.Errorf("%d bytes held for %d", len(d.buf), len(content))
	}
}

func TestLargeBufferIsLetGoWhileTheStreamStaysBusy(t *testing.T) {
	stream := Append(nil, make([]byte, 1<<20))
	large := len(stream)
	for range 100 {
		stream = Append(stream, make([]byte, 450))
	}
	r := &slowly{stream: stream, step: 1000} // never ends with a frame: a part of the next is always there
	d := NewDecoder(r, 4<<20)
	r.look = func(arrived int) {
		if arrived > large+2000 && len(d.buf) > readAhead+slack {
			t.Fatalf("%d bytes held for small frames", len(d.buf))
		}
	}
	for range 101 {
		if _, err := d.Next(); err != nil {
			t.Fatal(err)
		}
	}
}

// silent delivers one stream and then blocks until released.
type silent struct {
	io.Reader
	blocked chan<- struct{}
	release <-chan struct{}
}

func (s *silent) Read(p []byte) (int, error) {
	n, err := s.Reader.Read(p)
	if err == io.EOF {
		s.blocked <- struct{}{}
		<-s.release
	}
	return n, err
}

func TestIdleDecodersAreCheap(t *testing.T) {
	if raceEnabled {
		t.Skip("needs a build without -race, which pads heap and stacks")
	}
	const conns = 10_000
	stream := Append(nil, make([]byte, 100_000))
	blocked, release, done := make(chan struct{}), make(chan struct{}), make(chan error)
	before := inUse()
	for range conns {
		go func() {
			d := NewDecoder(&silent{bytes.NewReader(stream), blocked, release}, 4<<20)
			if _, err := d.Next(); err != nil {
				t.Error(err)
			}
			done <- d.Wait()
		}()
		<-blocked
	}
	per := (int64(inUse()) - int64(before)) / conns
	close(release)
	for range conns {
		if err := <-done; err != io.EOF {
			t.Error(err)
		}
	}
	t.Logf("%d bytes per idle decoder, its goroutine included", per)
	if per > 4<<10 {
		t.Errorf("%d bytes per idle decoder, its goroutine included", per)
	}
}

// inUse returns the bytes of heap and stacks in use once what nobody needs is collected.
func inUse() uint64 {
	runtime.GC()
	runtime.GC() // the second one empties the pools
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc + m.StackInuse
}
