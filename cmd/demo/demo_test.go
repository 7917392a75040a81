package main

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// go-ethereum's simulated chain leaves goroutines behind, one pool for the whole process and some that end in time.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction("github.com/ethereum/go-ethereum/core.(*txSenderCacher).cache"),
		goleak.IgnoreAnyFunction("github.com/syndtr/goleveldb/leveldb.(*DB).mpoolDrain"))
}

// blocks ends a demo after it has printed as many lines of blocks.
type blocks struct {
	mu   sync.Mutex // guards buf
	buf  bytes.Buffer
	left int
	end  context.CancelFunc
}

func (b *blocks) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if strings.HasPrefix(string(p), "block ") {
		if b.left--; b.left == 0 {
			b.end()
		}
	}
	return b.buf.Write(p)
}

func play(t *testing.T, count int, drop uint64) (result, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	out := &blocks{left: count, end: cancel}
	r, err := run(ctx, options{http: "127.0.0.1:0", period: 50 * time.Millisecond, out: out, drop: drop})
	if err != nil {
		t.Fatal(err)
	}
	return r, out.buf.String()
}

func TestEveryBlockIsStoredAndDuplicatesAreCounted(t *testing.T) {
	t.Parallel()
	r, out := play(t, 20, 0)
	if r.Lost != 0 || r.Stored != r.Produced || r.Produced < 10 || r.Duplicates == 0 {
		t.Errorf("%+v\n%s", r, out)
	}
	if !strings.Contains(out, "ms before observer-") || !strings.Contains(out, "the chain replaces its newest 2 blocks") {
		t.Errorf("output lacks who was first, or the reorganisation:\n%s", out)
	}
}

func TestADroppedBlockIsReportedAsLost(t *testing.T) {
	t.Parallel()
	r, out := play(t, 8, 5)
	if r.Lost != 1 || r.Stored != r.Produced-1 {
		t.Errorf("%+v\n%s", r, out)
	}
}

func TestTheLastLineHasTheDocumentedKeys(t *testing.T) {
	t.Parallel()
	line, err := json.Marshal(result{Produced: 3, Stored: 2, Duplicates: 4, Lost: 1, FirstBlockMS: 9})
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"produced":3,"stored":2,"duplicates":4,"lost":1,"first_block_ms":9}`; string(line) != want {
		t.Errorf("%s, want %s", line, want)
	}
}
