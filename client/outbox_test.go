package client

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/firstseen/firstseen/schema"
)

func TestMemoryBox(t *testing.T) {
	t.Parallel()
	b := newMemoryBox(Options{OutboxEntries: 4, OutboxBytes: 10, Now: time.Now})
	put := func(size int) error {
		_, err := b.Append([]entry{{frame: make([]byte, size), point: schema.Point{Number: 1}}})
		return err
	}
	if put(100) != nil {
		t.Error("an empty outbox takes one entry of any size")
	}
	if !errors.Is(put(1), errFull) {
		t.Error("full by bytes")
	}
	b.Ack(1)
	<-b.Room()
	for range 4 {
		if err := put(1); err != nil {
			t.Error(err)
		}
	}
	if !errors.Is(put(1), errFull) {
		t.Error("full by entries")
	}
	var seqs []uint64
	for e, ok := b.After(0); ok; e, ok = b.After(e.seq) {
		seqs = append(seqs, e.seq)
	}
	if !slices.Equal(seqs, []uint64{2, 3, 4, 5}) {
		t.Errorf("seqs %v", seqs)
	}
	b.Fail("refused")
	<-b.Room()
	b.Ack(4)
	if n, bytes, _ := b.Depth(); n != 1 || bytes != 1 {
		t.Errorf("%d entries of %d bytes", n, bytes)
	}
	if e, ok := b.After(4); !ok || e.seq != 5 {
		t.Error(e.seq, ok)
	}
}
