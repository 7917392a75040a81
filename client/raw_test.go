package client

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"math/rand"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/firstseen/firstseen/internal/chain"
	"github.com/firstseen/firstseen/internal/wire"
	"github.com/firstseen/firstseen/schema"
)

// takesRaw sets whether the next W agrees on raw parts.
func (s *fakeServer) takesRaw(yes bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.welcome.Caps = []string{}
	if yes {
		s.welcome.Caps = []string{wire.CapRaw}
	}
}

// rawPart returns that of a block that came last.
func (s *fakeServer) rawPart(name string) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.metas[name].Raw)
}

// raw returns what a block's raw part holds.
func (s *fakeServer) raw(name string) schema.RawBlock {
	s.t.Helper()
	b, err := chain.UnpackRaw(s.rawPart(name))
	if err == nil {
		err = chain.Verify.VerifyRaw(s.d.hash(name), b)
	}
	if err != nil {
		s.t.Errorf("raw part of %s: %v", name, err)
	}
	return b
}

func TestRawPartsHoldWhatTheNodeAnswered(t *testing.T) {
	t.Parallel()
	const far = 2*rawBatch + near + 3 // so that some are read by number, ahead, and some by hash
	d := draw(t).line("a", 0, far, "").transact("a3", 3).transact("a"+itoa(far), 2)
	d.more["a5"] = map[string]any{"later": "<&\u2028>"}
	s := serveRelay(t, d)
	s.has(0, "a0")
	s.takesRaw(true)
	c := relay(t, d, func(o *Options) { o.Raw = true }, s)
	s.wants(names("a", 1, far)...)
	if caps := s.hellos[0].Caps; !slices.Equal(caps, []string{wire.CapRaw}) {
		t.Errorf("caps %v", caps)
	}
	for _, name := range s.blocks() {
		b := s.raw(name)
		want, _ := json.Marshal(d.block(name, []json.RawMessage{nil, json.RawMessage("true")}))
		if !bytes.Equal(b.Block, want) {
			t.Errorf("%s is %.200s, want %.200s", name, b.Block, want)
		}
		if want, _ = json.Marshal(d.receipts(name)); !bytes.Equal(b.Receipts, want) {
			t.Errorf("receipts of %s are %.200s, want %.200s", name, b.Receipts, want)
		}
	}
	if less := c.Stats().NoRaw; len(less) != 0 {
		t.Errorf("left off: %v", less)
	}
}

func TestRawPartsAreLeftOffForAReason(t *testing.T) {
	t.Parallel()
	noise := make([]byte, wire.MaxFrame)
	rand.New(rand.NewSource(1)).Read(noise)
	for name, c := range map[string]struct {
		more     map[string]any
		receipts ReceiptsMode
		fault    fault
		why      string
		sent     bool // without receipts
	}{
		"too large":                  {more: map[string]any{"later": base64.StdEncoding.EncodeToString(noise)}, why: rawTooLarge},
		"names that differ in case":  {more: map[string]any{"Number": "0x4"}, why: rawUnverified},
		"uncles that are not":        {more: map[string]any{"uncles": []string{schema.Hash{1}.String()}}, why: rawUnverified},
		"receipts off":               {receipts: ReceiptsOff, why: rawReceipts, sent: true},
		"receipts not in one answer": {fault: on("eth_getBlockReceipts", rpcError("-32601", "no")), why: rawReceipts, sent: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := draw(t).line("a", 0, 4, "").transact("a4", 3)
			d.more["a4"] = c.more
			s := serveRelay(t, d)
			s.has(3, "a3")
			s.takesRaw(true)
			n := serveDrawing(t, d)
			n.misbehave(c.fault)
			r := start(t, []string{n.URL}, []string{s.addr()}, func(o *Options) { o.Raw, o.Receipts = true, c.receipts })
			s.wants("a4")
			if got := r.Stats().NoRaw; got[c.why] != 1 {
				t.Errorf("counted %v, want %s", got, c.why)
			}
			if raw := s.rawPart("a4"); (raw != nil) != c.sent {
				t.Errorf("a raw part of %d bytes", len(raw))
			}
			if c.sent && s.raw("a4").Receipts != nil {
				t.Error("with receipts")
			}
		})
	}
}

// The same frames go to a server that does not take raw parts, without them, and to one that does, as they were.
func TestRawPartsComeAndGoWithTheServer(t *testing.T) {
	t.Parallel()
	d := draw(t).line("a", 0, 10, "")
	s := serveRelay(t, d)
	s.has(0, "a0")
	s.takesRaw(true)
	var mu sync.Mutex
	sent := map[int][][]byte{} // by connection; guarded by mu
	s.scripted(func(p *peer, frame []byte) bool {
		if frame[0] != wire.TypeData || p.index == 3 {
			return false
		}
		mu.Lock()
		sent[p.index] = append(sent[p.index], slices.Clone(frame))
		mu.Unlock()
		if p.note(frame) == "a10" {
			s.takesRaw(p.index > 0)
			return p.drop(nil)
		}
		return true
	})
	c := relay(t, d, func(o *Options) { o.Raw, o.Spool = true, filepath.Join(t.TempDir(), "spool") }, s)
	wait(t, "all settled", func() bool { return c.Stats().First == 10 })
	mu.Lock()
	defer mu.Unlock()
	for i, frame := range sent[0] {
		plain, err := wire.WithoutRaw(frame)
		if err != nil || bytes.Equal(plain, frame) || !bytes.Equal(plain, sent[1][i]) {
			t.Errorf("frame %d without its raw part is another (%v)", i, err)
		}
		if !bytes.Equal(frame, sent[2][i]) {
			t.Errorf("frame %d, sent again, is another", i)
		}
	}
}

// What a spool holds from an earlier run goes as this one was told.
func TestASpooledRawPartWaitsForAnObserverThatSendsThem(t *testing.T) {
	t.Parallel()
	d := draw(t).line("a", 0, 3, "")
	s := serveRelay(t, d)
	s.has(0, "a0")
	s.takesRaw(true)
	hold := func(p *peer, frame []byte) bool { return frame[0] == wire.TypeData && p.note(frame) != "" }
	s.scripted(hold)
	path := filepath.Join(t.TempDir(), "spool")
	spooled := func(raw bool) func(o *Options) {
		return func(o *Options) { o.Raw, o.Spool, o.Drain = raw, path, 1 }
	}
	first := relay(t, d, spooled(true), s)
	s.wants("a1", "a2", "a3")
	first.end()
	second := relay(t, d, spooled(false), s)
	s.wants("a1", "a2", "a3", "a1", "a2", "a3")
	if s.rawPart("a1") != nil || len(s.hellos[1].Caps) != 0 {
		t.Error("a raw part from an observer that was not told to send any")
	}
	second.end()
	s.scripted(nil)
	third := relay(t, d, spooled(true), s)
	wait(t, "all settled", func() bool { return third.Stats().First == 3 })
	if s.rawPart("a1") == nil {
		t.Error("the spool has lost it")
	}
}

func TestRawPartsAreNotForBareServers(t *testing.T) {
	t.Parallel()
	o := Options{Raw: true, Bare: true, Nodes: []string{"http://127.0.0.1:1"}, Servers: []string{"127.0.0.1:1"}}
	if err := o.Validate(); err == nil || !bytes.Contains([]byte(err.Error()), []byte("raw JSON")) {
		t.Errorf("%v", err)
	}
}
