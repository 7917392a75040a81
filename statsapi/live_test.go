package statsapi

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/firstseen/firstseen/internal/feed"
	"github.com/firstseen/firstseen/schema"
)

// serveLive is serve with a feed of the world's store.
func serveLive(t testing.TB, w *world, f feed.Options, o Options) *site {
	t.Helper()
	f.Source, f.Poll = w.store, 10*time.Millisecond
	tail, err := feed.New(f)
	if err != nil {
		t.Fatal(err)
	}
	background(t, tail.Run)
	o.Store, o.Live.Feed = w.store, tail
	return serve(t, o)
}

// listener is a client of /v1/ws.
type listener struct {
	t    testing.TB
	conn *websocket.Conn
}

func (s *site) listen(path string) *listener {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 20*time.Second)
	defer cancel()
	conn, _, err := websocket.Dial(ctx, strings.Replace(s.url, "http", "ws", 1)+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	conn.SetReadLimit(1 << 20)
	s.t.Cleanup(func() { _ = conn.CloseNow() })
	return &listener{t: s.t, conn: conn}
}

func (l *listener) say(text string) {
	l.t.Helper()
	if err := l.conn.Write(l.t.Context(), websocket.MessageText, []byte(text)); err != nil {
		l.t.Fatal(err)
	}
}

// message is anything that /v1/ws says.
type message struct {
	Type, ID, Cursor, Detail, Reason string
	Kind, Effect, Hash, Status, Was  string
	Seq, Number                      uint64
	From                             uint64 `json:"from_seq"`
	To                               uint64 `json:"to_seq"`
}

// hear returns the next message that is not about the cursor alone.
func (l *listener) hear() message {
	l.t.Helper()
	m, err := l.next()
	if err != nil {
		l.t.Fatal(err)
	}
	return m
}

// next is hear for who expects that the connection may end.
func (l *listener) next() (message, error) {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(l.t.Context(), 20*time.Second)
	defer cancel()
	for {
		_, text, err := l.conn.Read(ctx)
		if err != nil {
			return message{}, err
		}
		var m message
		if err := json.Unmarshal(text, &m); err != nil {
			l.t.Fatalf("%s: %v", text, err)
		}
		if m.Type != "cursor" {
			return m, nil
		}
	}
}

// short is what matters of a message.
func (m message) short() string {
	switch m.Type {
	case "event":
		out := fmt.Sprint(m.Seq, " ", m.Kind)
		for _, word := range []string{m.Status, m.Effect} {
			if word != "" {
				out += " " + word
			}
		}
		return out
	case "gap":
		return fmt.Sprintf("gap %d-%d", m.From, m.To)
	}
	return m.Type
}

func (l *listener) want(lines ...string) {
	l.t.Helper()
	for _, line := range lines {
		if m := l.hear(); m.short() != line {
			l.t.Errorf("heard %q, want %q (%+v)", m.short(), line, m)
		}
	}
}

// closed returns how the server closed the connection.
func (l *listener) closed() websocket.CloseError {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(l.t.Context(), 20*time.Second)
	defer cancel()
	for {
		if _, _, err := l.conn.Read(ctx); err != nil {
			var closed websocket.CloseError
			if code := websocket.CloseStatus(err); code == -1 || !asClose(err, &closed) {
				l.t.Fatalf("no close frame: %v", err)
			}
			return closed
		}
	}
}

func TestSubscribersGetHistoryThenLiveEventsAndUndo(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.grow(2)
	s := serveLive(t, w, feed.Options{}, Options{})
	l := s.listen("/v1/ws")
	l.say(`{"op":"subscribe","id":"all","from":"earliest"}`)
	first := l.hear()
	if first.Type != "subscribed" || first.ID != "all" {
		t.Fatalf("%+v", first)
	}
	l.want("1 block canonical apply", "2 block canonical apply")
	w.see("alice", 5, 3, "b3", "b2")
	w.see("bob", 5, 3, "c3", "b2")
	w.see("bob", 5, 4, "c4", "c3")
	l.want("3 block canonical apply", "4 block non_canonical", "5 block non_canonical")
	head := schema.Point{Number: 4, Hash: named("c4")}
	for range 2 {
		w.report("bob", 5, head, schema.Point{Number: 1, Hash: named("b1")})
	}
	l.want("6 status non_canonical undo", "7 status canonical apply", "8 status canonical apply")
}

func TestSubscriptionsComeAndGoOnOneConnection(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.grow(1)
	s := serveLive(t, w, feed.Options{}, Options{Live: LiveOptions{Subscriptions: 2}})
	l := s.listen("/v1/ws")
	l.say(`{"op":"subscribe","id":"a","kind":["block"],"from":"earliest"}`)
	l.want("subscribed")
	if m := l.hear(); m.ID != "a" || m.Hash != named("b1").String() {
		t.Errorf("event %+v", m)
	}
	l.say(`{"op":"subscribe","id":"a"}`)
	l.want("error")
	l.say(`{"op":"subscribe","id":"b","kind":["bare"]}`)
	l.want("subscribed")
	l.say(`{"op":"subscribe","id":"c"}`)
	if m := l.hear(); m.Type != "error" || !strings.Contains(m.Detail, "2 subscriptions") {
		t.Errorf("%+v", m)
	}
	l.say(`{"op":"unsubscribe","id":"a"}`)
	l.want("unsubscribed")
	w.see("alice", 5, 2, "b2", "b1")
	w.bare("x")
	if m := l.hear(); m.ID != "b" || m.Kind != "bare" {
		t.Errorf("event %+v", m)
	}
}

func TestWrongMessagesAreAnsweredAndTheConnectionGoesOn(t *testing.T) {
	t.Parallel()
	s := serveLive(t, newWorld(t), feed.Options{}, Options{})
	l := s.listen("/v1/ws")
	for _, text := range []string{
		`hello`, `{`, `[]`, `{"op":"shout"}`, `{"op":"subscribe","surprise":1}`, `{"op":"subscribe"} {}`,
		`{"op":"subscribe","id":"a b"}`, `{"op":"subscribe","kind":["x"]}`, `{"op":"subscribe","status":["x"]}`,
		`{"op":"subscribe","address":["0x12"]}`, `{"op":"subscribe","delivery":"later"}`,
		`{"op":"subscribe","from":"5"}`, `{"op":"subscribe","chain":[-1]}`, `{"op":"unsubscribe","id":"none"}`,
	} {
		l.say(text)
		if m := l.hear(); m.Type != "error" || m.Detail == "" {
			t.Errorf("%s: %+v", text, m)
		}
	}
	l.say(`{"op":"subscribe"}`)
	l.want("subscribed")
}

func TestACursorFromOneInstanceGoesOnAtAnother(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	one := serveLive(t, w, feed.Options{}, Options{})
	two := serveLive(t, w, feed.Options{Recent: 1}, Options{})
	w.grow(5)
	l := one.listen("/v1/ws?from=earliest")
	l.want("subscribed", "1 block canonical apply", "2 block canonical apply")
	at := l.hear().Cursor
	_ = l.conn.CloseNow()
	l = two.listen("/v1/ws?from=" + at)
	l.want("subscribed", "4 block canonical apply", "5 block canonical apply")
	w.see("alice", 5, 6, "b6", "b5")
	l.want("6 block canonical apply")
	l = two.listen("/v1/ws?from=0123456789abcdef.3")
	l.want("subscribed", "gap 0-0", "1 block canonical apply")
}

func TestFiltersOfTheURLChooseEvents(t *testing.T) {
	t.Parallel()
	w := drawn(t)
	s := serveLive(t, w, feed.Options{}, Options{})
	for path, want := range map[string][]string{
		"kind=bare":                       {"bare", "bare"},
		"kind=block&status=non_canonical": {"block non_canonical"},
		"chain=7,0":                       {"bare", "bare"},
	} {
		l := s.listen("/v1/ws?from=earliest&" + path)
		l.want("subscribed")
		for _, line := range want {
			if _, got, _ := strings.Cut(l.hear().short(), " "); got != line {
				t.Errorf("%s: %s, want %s", path, got, line)
			}
		}
	}
	a := schema.Address{0xbb}
	l := s.listen("/v1/ws?from=earliest&kind=block&address=" + a.String())
	l.want("subscribed")
	if m := l.hear(); m.Hash != named("b2").String() {
		t.Errorf("block of the address: %+v", m)
	}
	l = s.listen("/v1/ws?from=earliest&delivery=finalized")
	l.want("subscribed")
	for _, block := range []string{"b1", "b2"} {
		if m := l.hear(); m.Hash != named(block).String() || m.Status != "finalized" {
			t.Errorf("want %s finalized, heard %+v", block, m)
		}
	}
	if got := s.get("/v1/stream?kind=x"); got.StatusCode != http.StatusBadRequest {
		t.Errorf("a wrong filter: %d", got.StatusCode)
	}
}

func TestStreamsGoOnAfterTheLastEventID(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.grow(3)
	s := serveLive(t, w, feed.Options{}, Options{Live: LiveOptions{Ping: 500 * time.Millisecond}})
	events := s.stream("/v1/stream?from=earliest", "")
	var id string
	for i := range 3 {
		var e Event
		id = events.next(&e)
		if e.Seq != Number(i+1) || e.Cursor != id {
			t.Errorf("event %d: %+v, id %s", i, e, id)
		}
	}
	events.close()
	w.see("alice", 5, 4, "b4", "b3")
	events = s.stream("/v1/stream?from=earliest&kind=block", id)
	var e Event
	events.next(&e)
	if e.Seq != 4 || e.Hash != named("b4").String() {
		t.Errorf("after the last id: %+v", e)
	}
	w.bare("x") // does not match, but the place moves on
	events.comment(fmt.Sprintf("id: %s.5", strings.SplitN(id, ".", 2)[0]))
}

func TestAStreamThatNobodyReadsIsNotHeldOpen(t *testing.T) {
	t.Parallel()
	s := serveLive(t, newWorld(t), feed.Options{}, Options{})
	got := s.do(http.MethodHead, "/v1/stream") // would wait for the end of a body
	if got.StatusCode != http.StatusOK || !strings.HasPrefix(got.Header.Get("Content-Type"), "text/event-stream") {
		t.Errorf("%d %v", got.StatusCode, got.Header)
	}
	eventually(t, "its place is free", func() bool { return len(s.api.live.slots) == 0 })
}

// sse is a client of /v1/stream.
type sse struct {
	t      testing.TB
	body   io.ReadCloser
	lines  *bufio.Scanner
	cancel context.CancelFunc
}

func (s *site) stream(path, last string) *sse {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 20*time.Second)
	s.t.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	if last != "" {
		r.Header.Set("Last-Event-ID", last)
	}
	w, err := s.http.Transport.RoundTrip(r)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = w.Body.Close() })
	if kind := w.Header.Get("Content-Type"); w.StatusCode != http.StatusOK || !strings.HasPrefix(kind, "text/event-stream") {
		s.t.Fatalf("%d %s", w.StatusCode, kind)
	}
	return &sse{t: s.t, body: w.Body, lines: bufio.NewScanner(w.Body), cancel: cancel}
}

func (s *sse) close() { s.cancel(); _ = s.body.Close() }

// next decodes the next event and returns its id.
func (s *sse) next(into any) (id string) {
	s.t.Helper()
	for s.lines.Scan() {
		line := s.lines.Text()
		if value, ok := strings.CutPrefix(line, "id: "); ok {
			id = value
		}
		if data, ok := strings.CutPrefix(line, "data: "); ok {
			if err := json.Unmarshal([]byte(data), into); err != nil {
				s.t.Fatalf("%s: %v", data, err)
			}
			return id
		}
	}
	s.t.Fatalf("the stream ended: %v", s.lines.Err())
	return ""
}

// comment waits for a line.
func (s *sse) comment(want string) {
	s.t.Helper()
	for s.lines.Scan() {
		if s.lines.Text() == want {
			return
		}
	}
	s.t.Fatalf("the stream ended without %q: %v", want, s.lines.Err())
}
