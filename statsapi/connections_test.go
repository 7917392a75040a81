package statsapi

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/firstseen/firstseen/internal/presence"
)

// answering has the census of the servers that answer.
type answering map[string]presence.Census

func (a answering) Ask(_ context.Context, s presence.Server) (presence.Census, error) {
	c, ok := a[s.Server]
	if !ok {
		return c, errors.New("it does not answer")
	}
	return c, nil
}

// threeServers have beaten; what they answer differs from what they said.
func threeServers() fixedPresence {
	return fixedPresence{Known: true, Total: 6, Servers: []presence.Server{
		{Server: "a", Count: 3, Age: 2 * time.Second, Address: "h:1"}, {Server: "b", Count: 2}, {Server: "c", Count: 1},
	}}
}

func threeAnswers() answering {
	return answering{
		"a": {Count: 4, Addresses: map[string]int{"192.0.2.1": 3, "2001:db8::1": 1}, Observers: map[string]int{"alice": 2, "bob": 2}},
		"b": {Count: 2, Addresses: map[string]int{"192.0.2.1": 2}, Observers: map[string]int{"bob": 1, presence.BareConnections: 1}},
		"c": {},
	}
}

func TestStrongCountsAreWhatEachServerAnswers(t *testing.T) {
	t.Parallel()
	s := serve(t, Options{Store: newWorld(t).store, Presence: threeServers(), Asker: threeAnswers()})
	got := decode[Connections](s, "/v1/connections?consistency=strong")
	six := 6
	want := Connections{
		Total: &six, Counted: &six, Known: true, Consistency: "strong", Missing: []MissingServer{},
		Servers: []ServerConnection{{Server: "a", Count: 4, Address: "h:1"}, {Server: "b", Count: 2}, {Server: "c"}},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestStrongCountsNameWhoIsMissingAndAreUnknownThen(t *testing.T) {
	t.Parallel()
	asked := threeAnswers()
	delete(asked, "b")
	s := serve(t, Options{Store: newWorld(t).store, Presence: threeServers(), Asker: asked})
	got := decode[Connections](s, "/v1/connections?consistency=strong")
	if d := cmp.Diff([]MissingServer{{"b", "it does not answer"}}, got.Missing); d != "" || got.Known || got.Total != nil ||
		*got.Counted != 4 || got.Reason != "1 of 3 servers did not answer" || len(got.Servers) != 2 {
		t.Errorf("%+v %s", got, d)
	}
	if got := decode[Connections](s, "/v1/connections"); !got.Known || *got.Total != 6 || got.Missing != nil || got.Counted != nil {
		t.Errorf("by beats: %+v", got)
	}
}

func TestStrongCountsAreUnknownWhileTheListOfServersIs(t *testing.T) {
	t.Parallel()
	beats := threeServers()
	beats.Known, beats.Reason = false, "the presence store cannot be read"
	s := serve(t, Options{Store: newWorld(t).store, Presence: beats, Asker: threeAnswers()})
	got := decode[Connections](s, "/v1/connections?consistency=strong")
	if got.Known || got.Total != nil || got.Reason != beats.Reason || *got.Counted != 6 || len(got.Missing) != 0 {
		t.Errorf("%+v", got)
	}
	nobody := serve(t, Options{Store: newWorld(t).store})
	if got := decode[Connections](nobody, "/v1/connections?consistency=strong"); got.Known || got.Total != nil || *got.Counted != 0 {
		t.Errorf("without any server: %+v", got)
	}
	cannot := serve(t, Options{Store: newWorld(t).store, Presence: threeServers()})
	if got := decode[Connections](cannot, "/v1/connections?consistency=strong"); got.Known || len(got.Missing) != 3 {
		t.Errorf("without a way to ask: %+v", got)
	}
}

func TestConnectionsAreGroupedTheLargestFirst(t *testing.T) {
	t.Parallel()
	s := serve(t, Options{Store: newWorld(t).store, Presence: threeServers(), Asker: threeAnswers()})
	for query, want := range map[string]Connections{
		"?by=server":                    {Consistency: "availability", Groups: []ConnectionGroup{{"a", 3}, {"b", 2}, {"c", 1}}},
		"?by=server&consistency=strong": {Consistency: "strong", Groups: []ConnectionGroup{{"a", 4}, {"b", 2}, {"c", 0}}},
		"?by=ip":                        {Consistency: "strong", Groups: []ConnectionGroup{{"192.0.2.1", 5}, {"2001:db8::1", 1}}},
		"?by=observer":                  {Consistency: "strong", Groups: []ConnectionGroup{{"bob", 3}, {"alice", 2}, {"(bare)", 1}}},
		"?by=observer&limit=1":          {Consistency: "strong", Groups: []ConnectionGroup{{"bob", 3}}, Others: 3},
	} {
		got := decode[Connections](s, "/v1/connections"+query)
		if d := cmp.Diff(want.Groups, got.Groups); d != "" || got.Consistency != want.Consistency || got.Others != want.Others {
			t.Errorf("%s: %+v %s", query, got, d)
		}
	}
	for query, want := range map[string]string{
		"?by=ip&consistency=availability": "must be strong by ip",
		"?by=node":                        "must be server, ip or observer",
		"?consistency=weak":               "must be availability or strong",
		"?by=ip&limit=0":                  "must be a whole number",
	} {
		wantProblem(t, s.get("/v1/connections"+query), http.StatusBadRequest, want)
	}
}

// slow never answers.
type slow struct{}

func (slow) Ask(ctx context.Context, _ presence.Server) (presence.Census, error) {
	<-ctx.Done()
	return presence.Census{}, ctx.Err()
}

func TestAServerThatHangsIsMissingInTheEnd(t *testing.T) {
	t.Parallel()
	s := serve(t, Options{Store: newWorld(t).store, Presence: threeServers(), Asker: slow{}, RequestTimeout: 50 * time.Millisecond})
	if got := decode[Connections](s, "/v1/connections?consistency=strong"); len(got.Missing) != 3 || got.Known {
		t.Errorf("%+v", got)
	}
}
