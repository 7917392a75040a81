package store

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/firstseen/firstseen/schema"
)

func rawOffer(observer string, n uint64, raw string) *schema.Offer {
	o := blockOffer(observer, n, fmt.Sprint("a", n), fmt.Sprint("a", int(n)-1))
	o.Raw = []byte(raw)
	return o
}

func TestRawIsTheFirstObservers(t *testing.T) {
	t.Parallel()
	bothDialects(t, func(t *testing.T, dsn string) {
		s := running(t, opened(t, Options{DSN: dsn}))
		without := blockOffer("carol", 2, "a2", "a1")
		offerAll(t, s, rawOffer("alice", 1, "alice's\x00\xff"), rawOffer("bob", 1, "bob's"), without,
			rawOffer("alice", 2, "too late"))
		offerAll(t, s, rawOffer("bob", 1, "bob's"), rawOffer("alice", 2, "too late"), rawOffer("bob", 3, "three"))

		if got, err := s.Raw(t.Context(), testChain, named("a1").Key()); err != nil || string(got) != "alice's\x00\xff" {
			t.Errorf("raw of a1: %q, %v", got, err)
		}
		for _, none := range []string{"a2", "nobody's"} {
			if got, err := s.Raw(t.Context(), testChain, named(none).Key()); err != nil || got != nil {
				t.Errorf("raw of %s: %q, %v", none, got, err)
			}
		}
		if got, err := s.Raw(t.Context(), testChain+1, named("a1").Key()); err != nil || got != nil {
			t.Errorf("raw of another chain's a1: %q, %v", got, err)
		}
		keys := []schema.Key{named("a3").Key(), named("a1").Key(), named("a2").Key()}
		got, err := s.Raws(t.Context(), testChain, keys)
		if err != nil || len(got) != 2 || string(got[keys[0]]) != "three" || string(got[keys[1]]) != "alice's\x00\xff" {
			t.Errorf("raws: %q, %v", got, err)
		}
		if n := s.countRows(t, "raws"); n != 2 {
			t.Errorf("%d rows, want 2", n)
		}
	})
}

// A frame has 4 MiB: databases as they are installed take that in one statement.
func TestTheLargestRawPartIsStored(t *testing.T) {
	t.Parallel()
	bothDialects(t, func(t *testing.T, dsn string) {
		s := running(t, opened(t, Options{DSN: dsn}))
		large := bytes.Repeat([]byte("\x00\xff'\\"), 1<<20)
		got := offerAll(t, s, rawOffer("alice", 1, string(large)), rawOffer("alice", 2, "small"), rawOffer("alice", 3, string(large)))
		if n := count(got, schema.First); n != 3 {
			t.Fatalf("settled as %v", got)
		}
		for _, key := range []string{"a1", "a3"} {
			if raw, err := s.Raw(t.Context(), testChain, named(key).Key()); err != nil || !bytes.Equal(raw, large) {
				t.Errorf("%s: %d bytes, %v", key, len(raw), err)
			}
		}
	})
}

func TestRetentionTakesRawWithThePayload(t *testing.T) {
	t.Parallel()
	bothDialects(t, func(t *testing.T, dsn string) {
		now := time.Unix(2e9, 0)
		s := running(t, opened(t, Options{DSN: dsn, Keep: Retention{PayloadsFor: time.Hour}, Now: func() time.Time { return now }}))
		answers := &settlements{t: t}
		const many = 3*sweepRaws + 1 // old ones, of which every other has raw JSON, and no payload
		for n := range uint64(many + 4) {
			o := rawOffer("alice", n+1, "raw")
			o.ReceivedAt = now.Add(-time.Duration(min(n, 3)) * 40 * time.Minute)
			if n%2 == 1 {
				o.Payload = nil
			} else if n > 4 {
				o.Raw = nil
			}
			answers.offer(s, o)
		}
		answers.wait()
		if err := s.forget(t.Context()); err != nil {
			t.Fatal(err)
		}
		for n, want := range map[uint64]string{1: "raw", 2: "raw", 3: "", 4: ""} {
			got, err := s.Raw(t.Context(), testChain, named(fmt.Sprint("a", n)).Key())
			if err != nil || string(got) != want {
				t.Errorf("raw of block %d: %q, %v, want %q", n, got, err, want)
			}
		}
		if n := s.countRows(t, "raws"); n != 2 {
			t.Errorf("%d are left, want 2", n)
		}
	})
}

func TestRawCountsInTheQueue(t *testing.T) {
	t.Parallel()
	plain, raw := blockOffer("alice", 1, "a1", "a0"), rawOffer("alice", 1, string(bytes.Repeat([]byte("x"), 1000)))
	if d := newPending(raw, nil).size - newPending(plain, nil).size; d != 1000 {
		t.Errorf("1000 bytes of raw JSON count as %d", d)
	}
}

func TestRawThatNoTableHoldsIsRefused(t *testing.T) {
	t.Parallel()
	bare := bareOffer("x")
	bare.Raw = []byte("{}")
	for name, o := range map[string]*schema.Offer{
		"too long": rawOffer("alice", 1, string(make([]byte, maxPayload+1))), "without a header": bare,
	} {
		if screen(o) == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
