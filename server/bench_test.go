package server_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"math/big"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/rlp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/firstseen/firstseen/internal/store"
	"github.com/firstseen/firstseen/internal/testenv"
	"github.com/firstseen/firstseen/internal/wire"
	"github.com/firstseen/firstseen/netstring"
	"github.com/firstseen/firstseen/schema"
	"github.com/firstseen/firstseen/server"
)

// BenchmarkOfferToAck measures blocks with payloads of 450 bytes through a real server and database, from before the
// client's write until after it has read the ack: saturated, and one at a time.
func BenchmarkOfferToAck(b *testing.B) {
	for _, load := range benchLoads {
		b.Run("none/"+load.String(), func(b *testing.B) {
			benchmarkClients(b, serve(b, instant{}), load)
		})
	}
	databases := []struct {
		name string
		dsn  func(testing.TB) string
	}{
		{"sqlite", func(tb testing.TB) string { return "sqlite:///" + filepath.Join(tb.TempDir(), "bench.db") }},
		{"mysql", testenv.MySQL},
	}
	for _, db := range databases {
		for _, load := range benchLoads {
			b.Run(db.name+"/"+load.String(), func(b *testing.B) {
				benchmarkClients(b, serve(b, migrated(b, db.dsn(b))), load)
			})
		}
	}
}

type benchLoad struct{ clients, window int }

func (l benchLoad) String() string { return fmt.Sprintf("clients=%d,window=%d", l.clients, l.window) }

var benchLoads = []benchLoad{{16, 256}, {1, 1}}

// instant settles every offer at once: what is measured with it is the server's own ceiling.
type instant struct{}

func (instant) Offer(_ context.Context, _ *schema.Offer, done func(schema.Settlement)) error {
	done(schema.Settlement{Outcome: schema.First})
	return nil
}

func (instant) Report(context.Context, string, schema.Report) error { return nil }

func (instant) Positions(context.Context, []uint64) ([]schema.Position, error) { return nil, nil }

func (instant) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

func migrated(b testing.TB, dsn string) *store.Store {
	b.Helper()
	s, err := store.Open(b.Context(), store.Options{DSN: dsn})
	if err != nil {
		b.Fatal(err)
	}
	if err := s.Migrate(b.Context()); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { s.Close() })
	return s
}

// serve runs a store and a server until the benchmark ends and returns the server's address.
func serve(b testing.TB, s interface {
	server.Store
	Run(context.Context) error
}) string {
	b.Helper()
	srv, err := server.New(server.Options{Addr: "127.0.0.1:0", Name: "bench", MaxConns: 40_000, Store: s,
		Registerer: prometheus.NewRegistry()})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	for _, run := range []func(context.Context) error{s.Run, srv.Run} {
		running.Go(func() {
			if err := run(ctx); err != nil {
				b.Error(err)
			}
		})
	}
	b.Cleanup(func() {
		cancel()
		running.Wait()
	})
	return srv.Addr().String()
}

func benchmarkClients(b *testing.B, addr string, load benchLoad) {
	frames := benchFrames(b, b.N)
	took := make([][]time.Duration, load.clients)
	conns := make([]net.Conn, load.clients)
	for i := range conns {
		conns[i] = greet(b, addr, i)
	}
	b.ResetTimer()
	var all sync.WaitGroup
	for i, nc := range conns {
		all.Go(func() { took[i] = pump(b, nc, share(frames, i, load.clients), load.window) })
	}
	all.Wait()
	b.StopTimer()
	merged := slices.Concat(took...)
	slices.Sort(merged)
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "offers/s")
	b.ReportMetric(float64(merged[len(merged)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(merged[len(merged)*99/100].Microseconds())/1000, "p99-ms")
	for _, nc := range conns {
		nc.Close()
	}
}

func share(frames [][]byte, i, of int) (mine [][]byte) {
	for ; i < len(frames); i += of {
		mine = append(mine, frames[i])
	}
	return mine
}

// benchFrames makes n D frames of different blocks, encoded.
func benchFrames(b *testing.B, n int) [][]byte {
	b.Helper()
	frames := make([][]byte, n)
	for i := range frames {
		frames[i] = benchFrame(b, i)
	}
	return frames
}

func benchFrame(tb testing.TB, i int) []byte {
	tb.Helper()
	h := &types.Header{Number: big.NewInt(int64(i)), Difficulty: big.NewInt(0), BaseFee: big.NewInt(7), Time: uint64(i)}
	raw, err := rlp.EncodeToBytes(h)
	if err != nil {
		tb.Fatal(err)
	}
	content, err := wire.AppendData(nil, schema.Observation{
		Chain: 1, Header: raw, Hash: schema.Hash(h.Hash()), Node: "geth-1", ObservedAt: time.Unix(1_700_000_000, 0),
		ContentType: "text/html; charset=utf-8", Origin: schema.OriginBackfill,
	}, bytes.Repeat([]byte("x"), 450))
	if err != nil {
		tb.Fatal(err)
	}
	return netstring.Append(nil, content)
}

func greet(tb testing.TB, addr string, i int) net.Conn {
	tb.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := nc.Write(netstring.Append(nil, helloOf(i))); err != nil {
		tb.Fatal(err)
	}
	return nc
}

func helloOf(i int) []byte {
	hello, err := wire.AppendHello(nil, wire.Hello{Observer: fmt.Sprintf("observer-%d", i), Chains: []uint64{1}})
	if err != nil {
		panic(err)
	}
	return hello
}

// pump sends the frames with at most window of them unacked and returns how long each took.
func pump(b *testing.B, nc net.Conn, frames [][]byte, window int) []time.Duration {
	sent := make(chan time.Time, window)
	took := make([]time.Duration, 0, len(frames))
	var writing sync.WaitGroup
	writing.Go(func() {
		out := bufio.NewWriterSize(nc, 64<<10)
		for _, f := range frames {
			if len(sent) == window {
				out.Flush()
			}
			sent <- time.Now()
			out.Write(f)
			if window == 1 {
				out.Flush()
			}
		}
		out.Flush()
	})
	dec := netstring.NewDecoder(nc, wire.MaxFrame)
	for len(took) < len(frames) {
		content, err := dec.Next()
		if err != nil {
			b.Error(err)
			return nil
		}
		switch wire.Type(content) {
		case wire.TypeAck:
			_, flags, err := wire.ParseAck(content)
			if err != nil {
				b.Error(err)
			}
			now := time.Now()
			for range flags {
				took = append(took, now.Sub(<-sent))
			}
		case wire.TypeRefusal, wire.TypeFatal:
			b.Errorf("%s", content)
			return nil
		}
	}
	writing.Wait()
	return took
}
