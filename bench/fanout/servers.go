package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"runtime/pprof"
	"strings"
	"sync"
	"time"

	"github.com/centrifugal/centrifuge"
	"github.com/coder/websocket"

	"github.com/firstseen/firstseen/internal/feed"
	"github.com/firstseen/firstseen/internal/store"
	"github.com/firstseen/firstseen/schema"
	"github.com/firstseen/firstseen/statsapi"
)

// eventBytes is about how long an event is.
const eventBytes = 500

// publisher hands one event to all subscribers.
type publisher func(seq int64) error

// serveKind is a contender: it tells its address and then does what it is told on standard input.
func serveKind(ctx context.Context, kind, profile string) error {
	if profile != "" {
		f, err := os.Create(profile)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	start := map[string]func(context.Context) (string, publisher, error){
		"bare": bare, "firstseen": product, "centrifuge": library,
	}[kind]
	if start == nil {
		return fmt.Errorf("no contender %q", kind)
	}
	addr, publish, err := start(ctx)
	if err != nil {
		return err
	}
	fmt.Println(addr)
	return obey(publish)
}

// obey publishes up to where it is told, or at a pace.
func obey(publish publisher) error {
	seq := int64(0)
	commands := make(chan string, 1024)
	go func() {
		defer close(commands)
		for in := bufio.NewScanner(os.Stdin); in.Scan(); {
			commands <- in.Text()
		}
	}()
	from, target := seq, seq
	for {
		command := ""
		if seq < target { // then a command does not have to wait for all of it
			if err := publish(seq); err != nil {
				return err
			}
			seq++
			select {
			case command = <-commands:
			default:
				continue
			}
		} else {
			command = <-commands
		}
		var upTo, lasts int64
		var rate float64
		switch {
		case command == "": // the end
			return nil
		case scans(command, "upto %d", &upTo):
			target = from + upTo
		case command == "stop":
			fmt.Println(seq - from)
			from, target = seq, seq
		case scans(command, "pace %g %d", &rate, &lasts):
			if err := steady(publish, &seq, rate, time.Duration(lasts)); err != nil {
				return err
			}
			from, target = seq, seq
			fmt.Println("done")
		}
	}
}

// steady publishes at a rate, whatever subscribers make of it.
func steady(publish publisher, seq *int64, rate float64, lasts time.Duration) error {
	every := time.Duration(float64(time.Second) / rate)
	start := time.Now()
	for next := start; next.Sub(start) < lasts; next = next.Add(every) {
		time.Sleep(time.Until(next))
		if err := publish(*seq); err != nil {
			return err
		}
		*seq++
	}
	return nil
}

func scans(text, format string, into ...any) bool {
	n, err := fmt.Sscanf(text, format, into...)
	return err == nil && n == len(into)
}

// text is an event of about the right size that says when it was made.
func text(seq int64) []byte {
	head := fmt.Sprintf(`{"type":"event","seq":%d,"note":"ns=%d `, seq, time.Now().UnixNano())
	return append([]byte(head), strings.Repeat("x", eventBytes-len(head)-2)+`"}`...)
}

// bare writes each event to each connection, one after the other.
func bare(context.Context) (string, publisher, error) {
	var (
		mu    sync.Mutex
		conns []*websocket.Conn
	)
	addr, err := listen(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(w, r, &websocket.AcceptOptions{CompressionMode: websocket.CompressionDisabled})
		if err != nil {
			return
		}
		c.CloseRead(context.Background())
		mu.Lock()
		defer mu.Unlock()
		conns = append(conns, c)
	}))
	return addr, func(seq int64) error {
		mu.Lock()
		defer mu.Unlock()
		message := text(seq)
		for _, c := range conns {
			if err := c.Write(context.Background(), websocket.MessageText, message); err != nil {
				return err
			}
		}
		return nil
	}, err
}

func listen(h http.Handler) (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	go func() { _ = http.Serve(l, h) }() //nolint:gosec // local, and short-lived
	return l.Addr().String(), nil
}

// library is the broker of the centrifuge library, in memory.
func library(context.Context) (string, publisher, error) {
	node, err := centrifuge.New(centrifuge.Config{ClientQueueMaxSize: 16 << 20})
	if err != nil {
		return "", nil, err
	}
	node.OnConnecting(func(context.Context, centrifuge.ConnectEvent) (centrifuge.ConnectReply, error) {
		return centrifuge.ConnectReply{
			Credentials:    &centrifuge.Credentials{UserID: ""},
			PingPongConfig: &centrifuge.PingPongConfig{PingInterval: time.Hour, PongTimeout: time.Minute},
		}, nil
	})
	node.OnConnect(func(c *centrifuge.Client) {
		c.OnSubscribe(func(_ centrifuge.SubscribeEvent, answer centrifuge.SubscribeCallback) {
			answer(centrifuge.SubscribeReply{}, nil)
		})
	})
	if err := node.Run(); err != nil {
		return "", nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("/connection", centrifuge.NewWebsocketHandler(node, centrifuge.WebsocketConfig{}))
	addr, err := listen(mux)
	return addr, func(seq int64) error {
		_, err := node.Publish("feed", text(seq))
		return err
	}, err
}

// table is a feed's table in memory, so that no database is measured.
type table struct {
	mu   sync.Mutex // guards rows
	rows []schema.FeedEntry
}

func (t *table) add(row schema.FeedEntry) uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	row.Seq = uint64(len(t.rows)) + 1
	t.rows = append(t.rows, row)
	return row.Seq
}

// Feed implements feed.Source.
func (t *table) Feed(_ context.Context, after uint64, limit int) ([]schema.FeedEntry, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if after >= uint64(len(t.rows)) {
		return nil, nil
	}
	return t.rows[after:min(after+uint64(limit), uint64(len(t.rows)))], nil
}

// FeedEnd implements feed.Source.
func (t *table) FeedEnd(context.Context) (schema.FeedEnd, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return schema.FeedEnd{Epoch: "e0", Seq: uint64(len(t.rows))}, nil
}

// BlockAddresses implements feed.Source.
func (t *table) BlockAddresses(context.Context, []schema.Key) (map[schema.Key][]schema.Address, error) {
	return nil, nil
}

// product is the stats API over that table.
func product(ctx context.Context) (string, publisher, error) {
	rows, hints := &table{}, feed.NewHints(feed.HintsOptions{})
	tail, err := feed.New(feed.Options{Source: rows, Hints: hints})
	if err != nil {
		return "", nil, err
	}
	s, err := store.Open(ctx, store.Options{DSN: "memory"})
	if err != nil {
		return "", nil, err
	}
	if err := s.Migrate(ctx); err != nil {
		return "", nil, err
	}
	api, err := statsapi.New(ctx, statsapi.Options{Addr: "127.0.0.1:0", Store: s, Live: statsapi.LiveOptions{Feed: tail}})
	if err != nil {
		return "", nil, err
	}
	go func() { _ = tail.Run(ctx) }()
	go func() { _ = api.Run(ctx) }()
	key := schema.Key(strings.Repeat("ab", 32))
	header := &schema.Header{Time: time.Unix(1e9, 0)}
	header.Hash, _ = key.Hash()
	return api.Addr().String(), func(seq int64) error {
		n := uint64(seq)
		hints.Tell(rows.add(schema.FeedEntry{
			FeedEvent: schema.FeedEvent{
				Kind: schema.FeedBlock, Chain: 1, Key: key, Number: &n, Status: schema.StatusCanonical, At: time.Now(),
				Note: fmt.Sprintf("ns=%d ", time.Now().UnixNano()),
			},
			Record: &schema.Record{Header: header, Observer: "observer-1", Node: "geth", Origin: schema.OriginHead},
		}))
		return nil
	}, nil
}
