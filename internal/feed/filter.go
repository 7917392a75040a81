package feed

import (
	"fmt"
	"slices"

	"github.com/firstseen/firstseen/schema"
)

// Filter selects events; its zero value selects all. Every field that is set must let an event through. Gaps and alarms
// of a chain have neither status nor addresses and pass those; what is missing from the feed passes every filter.
type Filter struct {
	Chains    []uint64
	Kinds     []schema.FeedKind
	Statuses  []schema.Status
	Addresses []schema.Address // of senders, recipients and created contracts of the block's transactions
	Finalized bool             // each block once, when it is finalized, and nothing that may still be undone
	Heads     bool             // only events by which a block became its chain's head
}

// key is the same for filters that let the same events through.
func (f Filter) key() string {
	for _, sort := range []func(){
		func() { f.Chains = sorted(f.Chains) },
		func() { f.Kinds = sorted(f.Kinds) },
		func() { f.Statuses = sorted(f.Statuses) },
	} {
		sort()
	}
	addresses := make([]string, len(f.Addresses))
	for i, a := range f.Addresses {
		addresses[i] = a.Digits()
	}
	return fmt.Sprint(f.Chains, f.Kinds, f.Statuses, sorted(addresses), f.Finalized, f.Heads)
}

func sorted[T ~string | ~uint64](list []T) []T {
	list = slices.Clone(list)
	slices.Sort(list)
	return slices.Compact(list)
}

// match tells whether the filter lets an event through, whose addresses are known if the filter asks for any.
func (f *Filter) match(e *Event) bool {
	if e.Missing != nil {
		return true
	}
	if f.Heads && !e.Head || !allows(f.Chains, e.Chain) || !allows(f.Kinds, e.Kind) {
		return false
	}
	if e.Kind == schema.FeedGap || e.Kind == schema.FeedAlarm {
		return true
	}
	if f.Finalized && e.Status != schema.StatusFinalized || !allows(f.Statuses, e.Status) {
		return false
	}
	return len(f.Addresses) == 0 || slices.ContainsFunc(f.Addresses, func(a schema.Address) bool {
		return slices.Contains(e.addresses, a)
	})
}

func allows[T comparable](list []T, v T) bool { return len(list) == 0 || slices.Contains(list, v) }
