package presence

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// Snapshot is what a reader knows at one moment.
type Snapshot struct {
	Known   bool     // whether Total can be believed
	Total   int      // open connections over all servers; meaningless unless Known
	Reason  string   // in words why the total is unknown; empty if Known
	Servers []Server // those counted, by name; the last ones seen when the total is unknown
}

// Server is one server's part of a snapshot.
type Server struct {
	Server  string
	Count   int
	Age     time.Duration // since its beat last changed, by the reader's clock
	Address string
	Boot    string // of the beat
	Ask     string // host:port to ask for a Census; empty: it cannot be asked
}

// view is a reader's state: what the readings so far say. It knows time only as it is told.
type view struct {
	beat   time.Duration
	settle time.Duration // how long readings must go on before a total is believed: every server has beaten by then

	since   time.Time // start of the unbroken run of readings that found a live server
	last    time.Time // of the last good reading; zero before the first
	epoch   string
	fault   string // why the last reading failed; empty after a good one
	empty   bool   // the last reading held no server at all
	servers map[string]*sighting
}

// sighting is one server as seen over time.
type sighting struct {
	Beat
	changed  time.Time // when Boot or Seq last changed, by the reader's clock
	replaced string    // the boot before this one
	clash    time.Time // when a replaced boot last came back: two processes use one name
}

func newView(beat, settle time.Duration) *view {
	return &view{beat: beat, settle: settle, servers: make(map[string]*sighting)}
}

// bad notes that the board could not be read.
func (v *view) bad(fault string) { v.fault = fault }

// good takes in a reading. After a failure, a new epoch or a pause of the reader itself nothing known before counts:
// servers may have gone unseen.
func (v *view) good(now time.Time, r reading) {
	if v.last.IsZero() || v.fault != "" || v.epoch != r.epoch || now.Sub(v.last) > v.beat {
		v.since, v.epoch, v.fault = now, r.epoch, ""
		clear(v.servers)
	}
	v.last = now
	present := make(map[string]bool, len(r.beats))
	for _, b := range r.beats {
		if b.Left {
			v.leave(b)
			continue
		}
		present[b.Server] = true
		v.see(now, b)
	}
	live := 0
	for name, s := range v.servers {
		switch {
		case !v.dead(s, now):
			live++
		case !present[name]:
			delete(v.servers, name)
		}
	}
	// With no key at all the board may just have been emptied: those that come back first are not everybody.
	v.empty = len(present) == 0
	if live == 0 || v.empty {
		v.since = now
	}
}

func (v *view) see(now time.Time, b Beat) {
	s := v.servers[b.Server]
	if s == nil {
		v.servers[b.Server] = &sighting{Beat: b, changed: now}
		return
	}
	if b.Boot == s.Boot && b.Seq == s.Seq {
		return
	}
	if b.Boot != s.Boot {
		if b.Boot == s.replaced {
			s.clash = now
		}
		s.replaced = s.Boot
	}
	s.Beat, s.changed = b, now
}

// leave ignores the farewell of a boot that another has replaced: the successor overwrites it with its next beat.
func (v *view) leave(b Beat) {
	if s := v.servers[b.Server]; s != nil && s.Boot == b.Boot {
		delete(v.servers, b.Server)
	}
}

// dead leaves a lost key its three beats: the next beat of a living server brings it back.
func (v *view) dead(s *sighting, now time.Time) bool {
	return now.Sub(s.changed) >= deadBeats*v.beat
}

func (v *view) snapshot(now time.Time) Snapshot {
	var out Snapshot
	for _, s := range v.servers {
		if v.dead(s, now) {
			continue
		}
		out.Servers = append(out.Servers, Server{
			Server: s.Server, Count: s.Count, Age: now.Sub(s.changed), Address: s.Address, Boot: s.Boot, Ask: s.Ask,
		})
		out.Total += s.Count
	}
	slices.SortFunc(out.Servers, func(a, b Server) int { return cmp.Compare(a.Server, b.Server) })
	out.Reason = v.doubt(now, len(out.Servers))
	if out.Known = out.Reason == ""; !out.Known {
		out.Total = 0
	}
	return out
}

// doubt says why the total cannot be believed, or nothing.
func (v *view) doubt(now time.Time, live int) string {
	switch {
	case v.fault != "":
		return v.fault
	case v.last.IsZero():
		return "no reading yet"
	case now.Sub(v.last) > v.beat:
		return fmt.Sprintf("no reading for %s", now.Sub(v.last).Round(time.Second))
	case live == 0 || v.empty:
		return "no server reports (those of other processes do through Redis)"
	}
	for _, s := range v.servers {
		if !s.clash.IsZero() && now.Sub(s.clash) < deadBeats*v.beat {
			return fmt.Sprintf("two servers call themselves %s", s.Server)
		}
	}
	if age := now.Sub(v.since); age < v.settle {
		return fmt.Sprintf("reading for %s only, servers report within %s",
			age.Round(time.Millisecond), v.settle)
	}
	return ""
}
