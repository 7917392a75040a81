package server

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/firstseen/firstseen/internal/wire"
	"github.com/firstseen/firstseen/netstring"
	"github.com/firstseen/firstseen/schema"
)

// dialogueFile holds whole conversations; its about says how to replay them.
type dialogueFile struct {
	About     []string   `json:"about"`
	Dialogues []dialogue `json:"dialogues"`
}

type dialogue struct {
	Name    string       `json:"name"`
	Seconds int          `json:"seconds,omitempty"` // that it takes by design
	Steps   []step       `json:"steps"`
	Stored  []schema.Key `json:"stored"`         // the keys in the store at the end, in the order of their arrival
	Raws    []schema.Key `json:"raws,omitempty"` // those of which a raw part is stored
}

type step struct {
	Do   string `json:"do"`
	Hex  string `json:"hex,omitempty"`
	Text string `json:"text,omitempty"`
}

const anySession = "................" // in an expected W

var dialogueAbout = []string{
	"Conversations, byte for byte, netstring lengths and commas included. To test a server: start it with the name " +
		"relay-1, an empty store and 10 s to drain; for each dialogue connect and do the steps in their order. Each " +
		"begins with an empty store. To test a client: play the server.",
	"send: the client writes these bytes. trickle: the same, one byte per write. expect: the server writes exactly these, within 30 s. half_close: the client " +
		"closes its sending side and reads on. end: the server closes without another byte and without a reset. " +
		"reconnect: close and connect again. drain: tell the server to stop (SIGTERM).",
	"hex is what counts, text shows it. Sixteen dots in an expected frame stand for any sixteen characters: the session " +
		"that the server makes up. stored: the keys of the records at the end; raws: those of them with a raw part beside " +
		"them. A dialogue with seconds takes as long.",
	"The text at the end of an E or N frame is for people: of another server than ours, compare up to the code.",
	"Made by: go test ./server -run Dialogues -update",
}

func TestDialogues(t *testing.T) {
	t.Parallel()
	if *update {
		writeJSON(t, "dialogue.json", dialogueFile{dialogueAbout, dialogues()})
	}
	var file dialogueFile
	readJSON(t, "dialogue.json", &file)
	for _, d := range file.Dialogues {
		t.Run(d.Name, func(t *testing.T) {
			t.Parallel()
			if d.Seconds > 0 {
				synctest.Test(t, func(t *testing.T) { replayPiped(t, d) })
				return
			}
			r := start(t, func(o *Options) { o.Drain = 10 * time.Second })
			replay(t, r, d, func() net.Conn { return r.dial().nc })
		})
	}
}

func replayPiped(t *testing.T, d dialogue) {
	r, ln := startPiped(t, func(o *Options) { o.Drain = 10 * time.Second })
	began := time.Now()
	replay(t, r, d, func() net.Conn { return ln.connect(t).nc })
	if took := time.Since(began); took != time.Duration(d.Seconds)*time.Second {
		t.Errorf("took %v, not %d s", took, d.Seconds)
	}
}

func replay(t *testing.T, r *rig, d dialogue, connect func() net.Conn) {
	r.store.follow = true
	nc := connect()
	for i, s := range d.Steps {
		raw := fromHex(t, s.Hex)
		nc.SetDeadline(time.Now().Add(30 * time.Second))
		var err error
		switch s.Do {
		case "send":
			_, err = nc.Write(raw)
		case "trickle":
			for i := 0; i < len(raw) && err == nil; i++ {
				_, err = nc.Write(raw[i : i+1])
			}
		case "expect":
			err = expect(nc, raw)
		case "half_close":
			err = nc.(*net.TCPConn).CloseWrite()
		case "end":
			err = expectEnd(nc)
		case "reconnect":
			nc.Close()
			nc = connect()
		case "drain":
			r.stop()
		default:
			t.Fatalf("step %d: no such step: %s", i, s.Do)
		}
		if err != nil {
			t.Fatalf("step %d, %s %s: %v", i, s.Do, s.Text, err)
		}
	}
	nc.Close()
	checkStored(t, r, d)
}

func expect(nc net.Conn, want []byte) error {
	got := make([]byte, len(want))
	if n, err := io.ReadFull(nc, got); err != nil {
		return errors.New("got " + string(got[:n]) + ": " + err.Error())
	}
	pattern := strings.ReplaceAll(regexp.QuoteMeta(string(want)), regexp.QuoteMeta(anySession), "[0-9A-Za-z._-]{16}")
	if !regexp.MustCompile("(?s)^" + pattern + "$").Match(got) {
		return errors.New("got " + string(got))
	}
	return nil
}

func expectEnd(nc net.Conn) error {
	if n, err := nc.Read(make([]byte, 1)); n > 0 || !errors.Is(err, io.EOF) {
		return errors.New("the server said more, or ended otherwise")
	}
	return nil
}

func checkStored(t *testing.T, r *rig, d dialogue) {
	t.Helper()
	var keys []schema.Key
	for _, o := range r.store.all() {
		if !slices.Contains(keys, o.Key) {
			keys = append(keys, o.Key)
		}
	}
	if !slices.Equal(keys, d.Stored) {
		t.Errorf("stored %v, want %v", keys, d.Stored)
	}
	var raws []schema.Key
	for i, o := range r.store.all() {
		if first := slices.IndexFunc(r.store.all(), func(f *schema.Offer) bool { return f.Key == o.Key }) == i; first && o.Raw != nil {
			raws = append(raws, o.Key)
		}
	}
	if !slices.Equal(raws, d.Raws) {
		t.Errorf("raw parts of %v, want of %v", raws, d.Raws)
	}
}

// script writes a dialogue down.
type script struct {
	dialogue
	sent int // bytes, on this connection
}

func (s *script) step(do string, raw []byte) {
	st := step{Do: do, Hex: hex.EncodeToString(raw)}
	if !bytes.ContainsFunc(raw, func(r rune) bool { return r == '\uFFFD' || r != '\n' && r < ' ' }) {
		st.Text = string(raw)
	}
	s.Steps = append(s.Steps, st)
	switch do {
	case "send", "trickle":
		s.sent += len(raw)
	case "reconnect":
		s.sent = 0
	}
}

func (s *script) send(contents ...string)   { s.step("send", framed(contents)) }
func (s *script) raw(b string)              { s.step("send", []byte(b)) }
func (s *script) expect(contents ...string) { s.step("expect", framed(contents)) }
func (s *script) halfClose()                { s.step("half_close", nil) }
func (s *script) end()                      { s.step("end", nil) }
func (s *script) reconnect()                { s.step("reconnect", nil) }
func (s *script) drain()                    { s.step("drain", nil) }

func (s *script) greetRaw() {
	s.send(rawHello)
	s.expect(strings.Replace(welcomed(), `"caps":[]`, `"caps":["raw"]`, 1))
}

func (s *script) greet(chains ...schema.Position) {
	s.send(hello)
	s.expect(welcomed(chains...))
}

func framed(contents []string) []byte {
	var b []byte
	for _, c := range contents {
		b = netstring.Append(b, []byte(c))
	}
	return b
}

func welcomed(chains ...schema.Position) string {
	w, err := wire.AppendWelcome(nil, wire.Welcome{
		Server: "relay-1", Session: anySession, WindowFrames: 1024, WindowBytes: 4194304, MaxFrame: 4194304,
		PingMillis: 10000, DeadMillis: 25000, Chains: chains,
	})
	if err != nil {
		panic(err)
	}
	return string(w)
}

func dialogues() []dialogue {
	block := func(n int64) schema.Hash { _, h := headerAt(n); return h }
	at := func(n uint64) schema.Position {
		return schema.Position{Chain: 1, Point: schema.Point{Number: n, Hash: block(int64(n))}}
	}
	blocks := func(ns ...int64) []schema.Key {
		keys := []schema.Key{}
		for _, n := range ns {
			keys = append(keys, block(n).Key())
		}
		return keys
	}
	payloads := func(ps ...string) []schema.Key {
		keys := []schema.Key{}
		for _, p := range ps {
			keys = append(keys, schema.PayloadKey([]byte(p)))
		}
		return keys
	}
	var out []dialogue
	add := func(name string, seconds int, stored []schema.Key, write func(*script)) {
		s := &script{dialogue: dialogue{Name: name, Seconds: seconds, Stored: stored}}
		write(s)
		out = append(out, s.dialogue)
	}
	const one, two = "<p>1</p>", "<p>2</p>\n"
	none := blocks()

	add("bare: silence, whatever is sent", 0, payloads(one, two), func(s *script) {
		s.send(one, two, one)
		s.halfClose()
		s.end()
	})
	add("bare: a comment that is not HELLO", 0, payloads("<!--firstseen-->"), func(s *script) {
		s.send("<!--firstseen-->")
		s.halfClose()
		s.end()
	})
	add("bare: what comes before a bad frame is stored, what comes behind is not", 0, payloads(one), func(s *script) {
		s.send(one)
		s.raw("03:abc,8:<p>2</p>,")
		s.end()
	})
	add("bare: an empty frame", 0, none, func(s *script) {
		s.raw("0:,")
		s.end()
	})
	add("bare: a frame cut off", 0, none, func(s *script) {
		s.raw("8:<p>1</")
		s.halfClose()
		s.end()
	})
	add("relay: hello, first, duplicate, bye", 0, blocks(1), func(s *script) {
		s.greet()
		s.send(data(1))
		s.expect("A1 f")
		s.send(data(1))
		s.expect("A2 d")
		s.send("B")
		s.end()
	})
	add("relay: byte by byte", 0, blocks(1), func(s *script) {
		s.step("trickle", framed([]string{hello}))
		s.expect(welcomed())
		s.step("trickle", framed([]string{data(1)}))
		s.expect("A1 f")
		s.send("B")
		s.end()
	})
	add("relay: EOF instead of bye", 0, blocks(1), func(s *script) {
		s.greet()
		s.send(data(1))
		s.expect("A1 f")
		s.halfClose()
		s.end()
	})
	add("relay: refusals, and the link goes on", 0, blocks(1, 2), func(s *script) {
		s.greet()
		s.send(forged(7))
		s.expect("N1 header the header hashes to " + block(7).String())
		s.send(data(1))
		s.expect("A2 f")
		s.send("D{}\npayload")
		s.expect("N3 meta chain is not 1 to 2^63-1")
		s.send("D")
		s.expect("N4 meta no line feed behind the JSON")
		s.send(data(2))
		s.expect("A5 f")
		s.send("B")
		s.end()
	})
	add("relay: a new connection counts anew and is told the position", 0, blocks(1), func(s *script) {
		s.greet()
		s.send(data(1))
		s.expect("A1 f")
		s.send(data(1))
		s.expect("A2 d")
		s.reconnect()
		s.greet(at(1))
		s.send(data(1))
		s.expect("A1 d")
		s.send("B")
		s.end()
	})
	add("relay: status has no answer, unknown lower case is skipped", 0, blocks(1), func(s *script) {
		s.greet()
		s.send(`S{"heads":[{"chain":1,"node":"geth-1","latest":{"number":1,"hash":"`+block(1).String()+`"}}]}`, "x later", "O")
		s.send(data(1))
		s.expect("A1 f")
		s.send("B")
		s.end()
	})
	add("relay: drain", 0, blocks(1), func(s *script) {
		s.greet()
		s.drain()
		s.expect("G10000")
		s.send(data(1))
		s.expect("A1 f")
		s.send("B")
		s.end()
	})
	add("relay: ping and pong", 20, blocks(1), func(s *script) {
		s.greet()
		s.expect("P")
		s.send("O")
		s.expect("P")
		s.send("O", data(1))
		s.expect("A1 f")
		s.send("B")
	})
	add("relay: silence ends the link", 25, none, func(s *script) {
		s.greet()
		s.expect("P", "P", "Eretry timeout no word for 25s")
	})
	raw := rawAt(1)
	plain := raw
	plain.Raw = nil
	add("relay: a raw part is stored, and only with the first", 0, []schema.Key{raw.Hash.Key()}, func(s *script) {
		s.greetRaw()
		s.send(dataOf(raw, one))
		s.expect("A1 f")
		s.send(dataOf(raw, one))
		s.expect("A2 d")
		s.send(dataOf(plain, one))
		s.expect("A3 d")
		s.send("B")
		s.end()
	})
	out[len(out)-1].Raws = []schema.Key{raw.Hash.Key()}
	add("relay: a raw part that comes second is not stored", 0, []schema.Key{raw.Hash.Key()}, func(s *script) {
		s.greetRaw()
		s.send(dataOf(plain, one))
		s.expect("A1 f")
		s.send(dataOf(raw, one))
		s.expect("A2 d")
		s.send("B")
		s.end()
	})
	add("relay: raw parts that do not open or are not the block's, and the link goes on", 0, blocks(1), func(s *script) {
		s.greetRaw()
		for i, bad := range badRaws() {
			o := rawAt(1)
			o.Raw = bad.raw
			s.send(dataOf(o, one))
			s.expect("N" + strconv.Itoa(i+1) + " raw " + bad.why)
		}
		s.send(data(1))
		s.expect("A" + strconv.Itoa(len(badRaws())+1) + " f")
		s.send("B")
		s.end()
	})
	add("fatal: a raw part that was not agreed on", 0, none, func(s *script) {
		s.greet()
		s.send(dataOf(raw, one))
		s.expect("Estop protocol a raw part, but the cap raw was not agreed on")
		s.halfClose()
		s.end()
	})
	fatals := []struct{ name, sent, answer string }{
		{"version", string(framed([]string{`<!--firstseen/2 {"observer":"paris-1"}-->`})), "Estop version this server speaks version 1"},
		{"HELLO not closed", string(framed([]string{`<!--firstseen/1 {"observer":"paris-1"}`})), "Estop protocol hello is not one HTML comment"},
		{"an access key in the clear", string(framed([]string{`<!--firstseen/1 {"observer":"paris-1","token":"fsk_` +
			strings.Repeat("a", 16) + "_" + strings.Repeat("b", 52) + `"}-->`})),
			"Estop auth an access key must travel over TLS only: this one is no secret any more, revoke it"},
	}
	for _, f := range fatals {
		add("fatal: "+f.name, 0, none, func(s *script) {
			s.raw(f.sent)
			s.expect(f.answer)
			s.halfClose()
			s.end()
		})
	}
	const unknown = "Estop protocol frame is empty or of an unknown type"
	for _, f := range []struct {
		name, sent string
		at         int // the wrong byte
		answer     string
	}{
		{"unknown upper case", "1:X,", 0, unknown},
		{"empty frame", "0:,", 0, unknown},
		{"a second HELLO", string(framed([]string{hello})), 0, unknown},
		{"bad length", "01:O,", 1, "Estop protocol netstring: byte %d: length has a leading zero"},
		{"no comma", "1:Ox", 3, "Estop protocol netstring: byte %d: no comma after the content"},
		{"too large", "4194305:", 6, "Estop size netstring: byte %d: length exceeds the maximum"},
	} {
		add("fatal: "+f.name, 0, blocks(1), func(s *script) {
			s.greet()
			s.send(data(1))
			s.expect("A1 f")
			answer := strings.Replace(f.answer, "%d", strconv.Itoa(s.sent+f.at), 1)
			s.raw(f.sent)
			s.expect(answer)
			s.halfClose()
			s.end()
		})
	}
	return out
}
