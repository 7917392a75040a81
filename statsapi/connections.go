package statsapi

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/firstseen/firstseen/internal/presence"
)

const (
	askTimeout = 2 * time.Second // for one server's answer
	askAtOnce  = 32              // servers; further ones wait for their turn
)

// The consistencies of connection counts.
const (
	byBeats  = "availability" // what servers said last of themselves
	byAsking = "strong"       // what each server answers now
)

// connectionsInput says how connections are counted, and by what.
type connectionsInput struct {
	Consistency string     `query:"consistency" doc:"availability: what servers said last, at once. strong: each server is asked, and those that do not answer are named. Default availability, or strong by ip and observer." enum:"availability,strong"`
	By          string     `query:"by" doc:"What to group connections by: server, ip or observer. Beats tell counts by server only, so the others need strong." enum:"server,ip,observer"`
	Limit       limitParam `query:"limit" doc:"Groups to answer, the largest first; more than 100 gives 100."`
}

// read settles what the parameters leave open.
func (in *connectionsInput) read() (limit int, err error) {
	switch in.By {
	case "", "server":
	case "ip", "observer":
		if in.Consistency == byBeats {
			return 0, badParameter("consistency", in.Consistency, "must be strong by "+in.By+": servers tell that only when asked")
		}
		in.Consistency = byAsking
	default:
		return 0, badParameter("by", in.By, "must be server, ip or observer")
	}
	switch in.Consistency {
	case "":
		in.Consistency = byBeats
	case byBeats, byAsking:
	default:
		return 0, badParameter("consistency", in.Consistency, "must be availability or strong")
	}
	return in.Limit.read()
}

type connectionsOutput struct{ Body Connections }

// connections answers 200 also when it does not know: not to know is an answer, too.
func (a *API) connections(ctx context.Context, in *connectionsInput) (*connectionsOutput, error) {
	limit, err := in.read()
	if err != nil {
		return nil, err
	}
	s := a.opts.Presence.Snapshot()
	var out Connections
	var groups map[string]int
	if in.Consistency == byAsking {
		out, groups = a.askAll(ctx, s, in.By)
	} else {
		out = lastSaid(s)
	}
	if in.By == "server" {
		groups = map[string]int{}
		for _, v := range out.Servers {
			groups[v.Server] = v.Count
		}
	}
	out.Consistency, out.By = in.Consistency, in.By
	if in.By != "" {
		out.Groups, out.Others = largest(groups, limit)
	}
	return &connectionsOutput{Body: out}, nil
}

// lastSaid counts by beats.
func lastSaid(s presence.Snapshot) Connections {
	sum := connectionSum(s)
	out := Connections{Total: sum.Total, Known: sum.Known, Reason: sum.Reason, Servers: []ServerConnection{}}
	for _, v := range s.Servers {
		out.Servers = append(out.Servers, ServerConnection{
			Server: v.Server, Count: v.Count, AgeSeconds: v.Age.Seconds(), Address: v.Address,
		})
	}
	return out
}

func connectionSum(s presence.Snapshot) ConnectionSum {
	if !s.Known {
		return ConnectionSum{Reason: s.Reason}
	}
	return ConnectionSum{Total: &s.Total, Known: true}
}

// askAll asks every server whose beats go on. The total is known if all of them answered and nobody can have been
// overlooked.
func (a *API) askAll(ctx context.Context, s presence.Snapshot, by string) (Connections, map[string]int) {
	answers := make([]presence.Census, len(s.Servers))
	faults := make([]error, len(s.Servers))
	var asking errgroup.Group
	asking.SetLimit(askAtOnce)
	for i, v := range s.Servers {
		asking.Go(func() error {
			ctx, cancel := context.WithTimeout(ctx, askTimeout)
			defer cancel()
			answers[i], faults[i] = a.opts.Asker.Ask(ctx, v)
			return nil
		})
	}
	_ = asking.Wait() // no call fails: a server's silence is part of the answer
	out := Connections{Known: s.Known, Reason: s.Reason, Servers: []ServerConnection{}, Missing: []MissingServer{}}
	groups, total := map[string]int{}, 0
	for i, v := range s.Servers {
		if faults[i] != nil {
			out.Missing = append(out.Missing, MissingServer{Server: v.Server, Reason: faults[i].Error()})
			continue
		}
		total += answers[i].Count
		out.Servers = append(out.Servers, ServerConnection{Server: v.Server, Count: answers[i].Count, Address: v.Address})
		parts := answers[i].Addresses
		if by == "observer" {
			parts = answers[i].Observers
		}
		for name, n := range parts {
			groups[name] += n
		}
	}
	out.Counted = &total
	if n := len(out.Missing); n > 0 && out.Known {
		out.Known, out.Reason = false, fmt.Sprintf("%d of %d servers did not answer", n, len(s.Servers))
	}
	if out.Known {
		out.Total = &total
	}
	return out, groups
}

// largest returns the largest groups, and how many connections are in the others.
func largest(groups map[string]int, limit int) (top []ConnectionGroup, others int) {
	top = make([]ConnectionGroup, 0, len(groups))
	for name, n := range groups {
		top = append(top, ConnectionGroup{name, n})
	}
	slices.SortFunc(top, func(a, b ConnectionGroup) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Name, b.Name))
	})
	for _, g := range top[min(limit, len(top)):] {
		others += g.Count
	}
	return top[:min(limit, len(top))], others
}

// noAsker stands in where nobody can ask.
type noAsker struct{}

func (noAsker) Ask(context.Context, presence.Server) (presence.Census, error) {
	return presence.Census{}, errors.New("this process does not ask servers")
}
