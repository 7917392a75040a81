package statsapi

import (
	"context"

	"github.com/firstseen/firstseen/internal/presence"
)

type connectionsOutput struct{ Body Connections }

// connections always answers 200: not to know is an answer, too.
func (a *API) connections(context.Context, *struct{}) (*connectionsOutput, error) {
	s := a.opts.Presence.Snapshot()
	sum := connectionSum(s)
	out := Connections{Total: sum.Total, Known: sum.Known, Reason: sum.Reason, Servers: []ServerConnection{}}
	for _, v := range s.Servers {
		out.Servers = append(out.Servers, ServerConnection{
			Server: v.Server, Count: v.Count, AgeSeconds: v.Age.Seconds(), Address: v.Address,
		})
	}
	return &connectionsOutput{Body: out}, nil
}

func connectionSum(s presence.Snapshot) ConnectionSum {
	if !s.Known {
		return ConnectionSum{Reason: s.Reason}
	}
	return ConnectionSum{Total: &s.Total, Known: true}
}
