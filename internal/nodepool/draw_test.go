package nodepool

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/firstseen/firstseen/schema"
)

func TestMain(m *testing.M) {
	if hook() {
		return
	}
	goleak.VerifyTestMain(m,
		// go-ethereum's simulated chain leaves these behind.
		goleak.IgnoreAnyFunction("github.com/ethereum/go-ethereum/core.(*txSenderCacher).cache"),
		goleak.IgnoreAnyFunction("github.com/syndtr/goleveldb/leveldb.(*DB).mpoolDrain"))
}

// bench is a pool without a network, whose nodes say what the test makes them say, by a clock of its own.
type bench struct {
	*Pool
	t   testing.TB
	now time.Time
	top uint64 // the highest block of branch a that there is yet
}

func seat(t testing.TB, nodes int, change func(*Options)) *bench {
	t.Helper()
	b := &bench{t: t, now: time.Unix(1_700_000_000, 0), top: forkAt}
	o := Options{Chain: 7, Now: func() time.Time { return b.now }, Rand: func() float64 { return 0.5 }}
	for i := range nodes {
		o.Nodes = append(o.Nodes, fmt.Sprintf("%c=http://%d.example", 'a'+i, i))
	}
	if change != nil {
		change(&o)
	}
	p, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	b.Pool = p
	return b
}

// block is the block at a height of the branch that a letter names. Branch b leaves branch a at forkAt.
func block(letter byte, number uint64) schema.Header {
	h := schema.Header{Number: number, Time: time.Unix(1_600_000_000+int64(number), 0)}
	h.Hash = sha256.Sum256(fmt.Append(nil, letter, number))
	if number > 0 {
		if letter != 'a' && number == forkAt+1 {
			letter = 'a'
		}
		h.Parent = sha256.Sum256(fmt.Append(nil, letter, number-1))
	}
	return h
}

const forkAt = 100

// says is one node's probe. Its answers to questions about other heights are given at once, as an honest node on that
// branch would.
func (b *bench) says(node int, letter byte, number uint64) {
	b.t.Helper()
	n := b.nodes[node]
	b.heard(n, block(letter, number), false)
	if q, ok := b.question(n); ok {
		b.mu.Lock()
		if letter != 'a' && q <= min(b.top, forkAt) {
			letter = 'a'
		}
		n.branch.add(block(letter, q))
		b.vote(b.now)
		b.mu.Unlock()
	}
}

// all lets every node give the same head, and time pass by one poll.
func (b *bench) all(number uint64) {
	b.t.Helper()
	for i := range b.nodes {
		b.says(i, 'a', number)
	}
	b.pass(time.Second)
}

var errDown = errors.New("connection refused")

func (b *bench) fails(node int) { b.missed(b.nodes[node], errDown) }

func (b *bench) pass(d time.Duration) {
	b.now = b.now.Add(d)
	b.expire()
}

func (b *bench) is(node int, want schema.NodeState) {
	b.t.Helper()
	if got := b.nodes[node].state; got != want {
		b.t.Errorf("node %s is %s (%s), want %s", b.nodes[node].name, got, b.nodes[node].reason, want)
	}
}

func (b *bench) tipIs(number uint64, corroborated bool) {
	b.t.Helper()
	tip, c, ok := b.Tip()
	if !ok || tip.Number != number || c != corroborated {
		b.t.Errorf("tip %d, corroborated %v, known %v; want %d, %v", tip.Number, c, ok, number, corroborated)
	}
}

func (b *bench) picks(want string) {
	b.t.Helper()
	n, _, err := b.Pick()
	if err != nil {
		if want != "" {
			b.t.Error(err)
		}
		return
	}
	if n.name != want {
		b.t.Errorf("picks %s, want %q", n.name, want)
	}
}
