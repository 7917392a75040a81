package statsapi

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/firstseen/firstseen/schema"
)

const (
	defaultRace = 1000
	maxRace     = 5000
)

// Observers is how observers compare over the newest blocks.
type Observers struct {
	Blocks Number     `json:"blocks" doc:"That were compared: the newest, as many as were asked for at most."`
	Time   Time       `json:"time" doc:"When they were compared; an answer may be given again for a while."`
	Data   []Observer `json:"data" nullable:"false" doc:"By name."`
}

// Observer is one observer's part.
type Observer struct {
	Observer string `json:"observer"`
	Total    Number `json:"first_total" doc:"Blocks it was first with since the store began, on all chains."`
	Race
	Backfilled Number     `json:"backfilled" doc:"Blocks it fetched later, which are not compared."`
	Nodes      []NodeRace `json:"nodes" nullable:"false" doc:"The same by the node through which it saw them; by name."`
}

// NodeRace is the part of one of its nodes.
type NodeRace struct {
	Node string `json:"node"`
	Race
}

// Race compares arrivals at the servers. The delay of who was first is 0. It is exported for huma.
type Race struct {
	Seen     Number   `json:"seen" doc:"Blocks of those compared that it saw as heads."`
	First    Number   `json:"first" doc:"Of those it was first with so many."`
	DelayP50 *float64 `json:"delay_p50_seconds" doc:"Behind the first, for half of the blocks no more; null if it saw none."`
	DelayP99 *float64 `json:"delay_p99_seconds" doc:"Behind the first, for 99 of 100 blocks no more; null if it saw none."`
}

// raceParam is how many blocks to compare.
type raceParam string

// Schema implements huma.SchemaProvider.
func (raceParam) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeInteger, Minimum: new(1.0), Default: defaultRace}
}

func (p raceParam) read() (int, error) {
	if p == "" {
		return defaultRace, nil
	}
	n, ok := decimal(string(p))
	if !ok || n < 1 {
		return 0, badParameter("blocks", string(p), "must be a whole number of 1 or more")
	}
	return int(min(n, maxRace)), nil
}

type observersInput struct {
	Chain  chainParam `query:"chain" doc:"Compare blocks of this chain only."`
	Blocks raceParam  `query:"blocks" doc:"How many of the newest blocks to compare; more than 5000 gives 5000."`
}

type observersOutput struct{ Body Observers }

func (a *API) routeObservers() {
	get(a, "/v1/observers", "getObservers", "Who was first how often, and how far behind the others were", a.getObservers)
}

func (a *API) getObservers(ctx context.Context, in *observersInput) (*observersOutput, error) {
	chain, err := in.Chain.read()
	if err != nil {
		return nil, err
	}
	blocks, err := in.Blocks.read()
	if err != nil {
		return nil, err
	}
	t, err := a.counter.totals(ctx)
	if err != nil {
		return nil, err
	}
	race, err := a.races.get(ctx, fmt.Sprint(chainWord(chain), " ", blocks), func(ctx context.Context) (Observers, error) {
		sightings, err := a.opts.Store.Sightings(ctx, chain, blocks)
		if err != nil {
			return Observers{}, err
		}
		out := compare(sightings)
		out.Time = Time{a.opts.Now()}
		return out, nil
	})
	if err != nil {
		return nil, err
	}
	return &observersOutput{Body: withTotals(race, t.First)}, nil
}

func chainWord(chain *uint64) string {
	if chain == nil {
		return "all"
	}
	return formatUint(*chain)
}

// withTotals adds what was counted since the store began, also of observers that took no part lately.
func withTotals(race Observers, first map[string]uint64) Observers {
	out := race
	out.Data = slices.Clone(race.Data) // race is shared with other answers
	for name := range first {
		i, found := slices.BinarySearchFunc(out.Data, name, func(o Observer, name string) int {
			return strings.Compare(o.Observer, name)
		})
		if !found {
			out.Data = slices.Insert(out.Data, i, Observer{Observer: name, Nodes: []NodeRace{}})
		}
	}
	for i := range out.Data {
		out.Data[i].Total = Number(first[out.Data[i].Observer])
	}
	return out
}

// runner collects the delays of an observer, or of one of its nodes.
type runner struct {
	delays []time.Duration
	first  uint64
}

func (r *runner) add(delay time.Duration, first bool) {
	r.delays = append(r.delays, delay)
	if first {
		r.first++
	}
}

func (r *runner) race() Race {
	out := Race{Seen: Number(len(r.delays)), First: Number(r.first)}
	if len(r.delays) > 0 {
		slices.Sort(r.delays)
		out.DelayP50, out.DelayP99 = rank(r.delays, 0.50), rank(r.delays, 0.99)
	}
	return out
}

// rank is the nearest rank: the smallest value that so much of all does not exceed.
func rank(ordered []time.Duration, share float64) *float64 {
	seconds := ordered[max(1, int(math.Ceil(share*float64(len(ordered)))))-1].Seconds()
	return &seconds
}

// compare sorts out who saw each block when. Only heads are compared: who fetches blocks later is not late. Among equals
// the first in the order of names was first, so that there is one.
func compare(sightings []schema.Sighting) Observers {
	type name struct{ observer, node string }
	observers, nodes := map[string]*runner{}, map[name]*runner{}
	backfilled := map[string]uint64{}
	blocks := map[uint64][]schema.Sighting{}
	for _, s := range sightings {
		if observers[s.Observer] == nil {
			observers[s.Observer] = &runner{}
		}
		if s.Origin != schema.OriginHead {
			backfilled[s.Observer]++
			continue
		}
		blocks[s.Record] = append(blocks[s.Record], s)
	}
	for _, seen := range blocks {
		slices.SortFunc(seen, func(a, b schema.Sighting) int {
			return cmp.Or(a.ReceivedAt.Compare(b.ReceivedAt), strings.Compare(a.Observer, b.Observer))
		})
		for i, s := range seen {
			delay := s.ReceivedAt.Sub(seen[0].ReceivedAt)
			observers[s.Observer].add(delay, i == 0)
			n := name{s.Observer, s.Node}
			if nodes[n] == nil {
				nodes[n] = &runner{}
			}
			nodes[n].add(delay, i == 0)
		}
	}
	out := Observers{Blocks: Number(len(blocks)), Data: []Observer{}}
	for observer, r := range observers {
		o := Observer{
			Observer: observer, Race: r.race(), Backfilled: Number(backfilled[observer]), Nodes: []NodeRace{},
		}
		for n, r := range nodes {
			if n.observer == observer {
				o.Nodes = append(o.Nodes, NodeRace{Node: n.node, Race: r.race()})
			}
		}
		slices.SortFunc(o.Nodes, func(a, b NodeRace) int { return strings.Compare(a.Node, b.Node) })
		out.Data = append(out.Data, o)
	}
	slices.SortFunc(out.Data, func(a, b Observer) int { return strings.Compare(a.Observer, b.Observer) })
	return out
}
