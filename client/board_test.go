package client

import (
	"fmt"
	"testing"
	"time"

	"github.com/firstseen/firstseen/internal/wire"
	"github.com/firstseen/firstseen/schema"
)

func TestANewConnectionIsToldOfTransitionsAgain(t *testing.T) {
	t.Parallel()
	b := newBoard(time.Now())
	decided := func(from, to int) []schema.NodeEvent {
		var out []schema.NodeEvent
		for i := from; i < to; i++ {
			out = append(out, schema.NodeEvent{Node: fmt.Sprint(i)})
		}
		return out
	}
	expect := func(told uint64, fresh []schema.NodeEvent, first, count int, now uint64) {
		t.Helper()
		got, n := b.transitions(told, fresh)
		if len(got) != count || n != now || count > 0 && got[0].Node != fmt.Sprint(first) {
			t.Errorf("told %d: %d events from %v, then %d; want %d from %d, then %d", told, len(got), got, n, count, first, now)
		}
	}
	expect(0, decided(0, 3), 0, 3, 3)
	expect(3, nil, 0, 0, 3)
	expect(3, decided(3, 4), 3, 1, 4)
	expect(0, nil, 0, 4, 4) // another connection
	expect(0, decided(4, 4+wire.MaxEvents), 4, wire.MaxEvents, 4+wire.MaxEvents)
}
