package nodepool

import (
	"strings"
	"testing"

	"github.com/firstseen/firstseen/schema"
)

// The state machine as docs/NODES.md has it, every pair of state and event. A dot is "stays".
const machine = `
             answered   near   proven  within  behind   alone   lost         forged       strange      cleared
unknown      live       .      .       .       .        .       .            quarantined  wrong_chain  .
live         .          ready  ready   ready   lagging  ready   quarantined  quarantined  wrong_chain  .
ready        .          .      .       .       lagging  .       quarantined  quarantined  wrong_chain  .
lagging      .          .      ready   .       .        ready   quarantined  quarantined  wrong_chain  .
quarantined  probation  .      .       .       .        .       .            .            wrong_chain  unknown
probation    .          .      ready   .       lagging  ready   quarantined  quarantined  wrong_chain  .
wrong_chain  .          .      .       .       .        .       .            .            .            unknown
`

func TestEveryStateAndEvent(t *testing.T) {
	t.Parallel()
	names := map[string]event{"answered": answered, "near": near, "proven": proven, "within": within, "behind": behind,
		"alone": alone, "lost": lost, "forged": forged, "strange": strange, "cleared": cleared}
	if len(names) != int(events) {
		t.Fatalf("%d events named, there are %d", len(names), events)
	}
	lines := strings.Split(strings.TrimSpace(machine), "\n")
	head := strings.Fields(lines[0])
	if len(lines)-1 != len(transitions) || len(head) != int(events) {
		t.Fatalf("%d states and %d events drawn, there are %d and %d", len(lines)-1, len(head), len(transitions), events)
	}
	for _, line := range lines[1:] {
		cells := strings.Fields(line)
		from := schema.NodeState(cells[0])
		for i, cell := range cells[1:] {
			want := schema.NodeState(cell)
			if cell == "." {
				want = from
			}
			if got := transitions[from][names[head[i]]]; got != want {
				t.Errorf("%s + %s = %q, want %q", from, head[i], got, want)
			}
		}
	}
}
