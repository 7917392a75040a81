package main

import (
	"context"
	"crypto/sha1" //nolint:gosec // what the seed's SQL makes addresses of
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/firstseen/firstseen/internal/store"
	"github.com/firstseen/firstseen/statsapi"
)

const (
	pageRows = 10
	// pageOf is what the store asks for one page of blocks, and so what the driver is asked beside it.
	pageOf = "SELECT id, chain, `key`, number, parent, status, block_time, observed_at, received_at, content_type, observer, " +
		"node, origin, server, remote FROM records "
	keysetPage = pageOf + "FORCE INDEX (records_chain_number) WHERE chain = ? AND number < ? ORDER BY number DESC, id DESC LIMIT 10"
	offsetPage = pageOf + "WHERE chain = ? ORDER BY number DESC, id DESC LIMIT 10 OFFSET ?"
	// slowConns is on how many connections a slow contender is asked: more would only wait for each other, for minutes.
	slowConns = 2
	// cursors is how many places pages are asked from.
	cursors = 500
)

// measure asks all contenders at the rate, then those that page as fast as it goes.
func measure(ctx context.Context, o options) (err error) {
	b, err := open(ctx, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	field, err := b.contenders(ctx)
	if err != nil {
		return err
	}
	fmt.Printf("%d blocks, pages of %d; medians of %d rounds of %v, over %d connections\n\n",
		o.rows, pageRows, o.rounds, o.duration, o.conns)
	fmt.Printf("At %d requests a second, latency from when a request was due:\n", o.rate)
	quick := slices.DeleteFunc(slices.Clone(field), func(c contender) bool { return c.slow })
	if err := compete(ctx, o, quick, openLoop); err != nil {
		return err
	}
	fmt.Printf("\nAs fast as it goes:\n")
	return compete(ctx, o, field, closedLoop)
}

// compete lets contenders run in turn, so that what else the machine does meets all of them. Ratios are to the first.
func compete(
	ctx context.Context, o options, field []contender, loop func(context.Context, options, ask) (result, error),
) error {
	results := make([][]result, len(field))
	for range o.rounds {
		for i, c := range field {
			with := o
			if c.slow {
				with.conns = min(o.conns, slowConns)
			}
			r, err := loop(ctx, with, c.ask)
			if err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			results[i] = append(results[i], r)
		}
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "contender\trequests/s\tof the driver\tp50\tp99\tp99 to the driver's")
	for i, c := range field {
		shares, tails := make([]float64, o.rounds), make([]float64, o.rounds)
		for n, r := range results[i] {
			shares[n] = r.rate / results[0][n].rate
			tails[n] = float64(r.p99) / float64(results[0][n].p99)
		}
		_, _ = fmt.Fprintf(w, "%s\t%.0f\t%.2f\t%v\t%v\t%.1f\n", c.name,
			median(results[i], func(r result) float64 { return r.rate }), middle(shares),
			median(results[i], func(r result) time.Duration { return r.p50 }).Round(10*time.Microsecond),
			median(results[i], func(r result) time.Duration { return r.p99 }).Round(10*time.Microsecond), middle(tails))
	}
	return w.Flush()
}

func median[T float64 | time.Duration](results []result, of func(result) T) T {
	values := make([]T, len(results))
	for i, r := range results {
		values[i] = of(r)
	}
	return middle(values)
}

func middle[T float64 | time.Duration](values []T) T {
	slices.Sort(values)
	return values[len(values)/2]
}

// bench is a running API with a client, and the driver beside it.
type bench struct {
	o     options
	store *store.Store
	db    *sql.DB
	http  *http.Client
	url   string
	stop  context.CancelFunc
	ended chan error
}

func open(ctx context.Context, o options) (*bench, error) {
	s, err := store.Open(ctx, store.Options{DSN: o.dsn})
	if err != nil {
		return nil, err
	}
	db, err := sql.Open("mysql", o.dsn)
	if err != nil {
		_ = s.Close()
		return nil, err
	}
	db.SetMaxOpenConns(o.conns)
	db.SetMaxIdleConns(o.conns)
	api, err := statsapi.New(ctx, statsapi.Options{Addr: "127.0.0.1:0", Store: s})
	if err != nil {
		_ = s.Close()
		_ = db.Close()
		return nil, err
	}
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	b := &bench{
		o: o, store: s, db: db, url: "http://" + api.Addr().String(), stop: stop, ended: make(chan error, 1),
		http: &http.Client{Transport: &http.Transport{
			MaxConnsPerHost: o.conns, MaxIdleConnsPerHost: o.conns, DisableCompression: true,
		}},
	}
	go func() { b.ended <- api.Run(running) }()
	return b, nil
}

func (b *bench) close() error {
	b.http.CloseIdleConnections()
	b.stop()
	return errors.Join(<-b.ended, b.store.Close(), b.db.Close())
}

func (b *bench) contenders(ctx context.Context) ([]contender, error) {
	places, err := b.places(ctx)
	if err != nil {
		return nil, err
	}
	keyset, err := b.db.PrepareContext(ctx, keysetPage)
	if err != nil {
		return nil, fmt.Errorf("prepare: %w", err)
	}
	offset, err := b.db.PrepareContext(ctx, offsetPage)
	if err != nil {
		return nil, fmt.Errorf("prepare: %w", err)
	}
	page := func(statement *sql.Stmt) ask {
		return func(ctx context.Context, pick *rand.Rand) error {
			return readPage(ctx, statement, pick.IntN(b.o.rows-2*pageRows)+pageRows)
		}
	}
	cursor := func(format string) ask {
		return b.get(func(pick *rand.Rand) string { return fmt.Sprintf(format, places[pick.IntN(len(places))]) })
	}
	return []contender{
		{name: "driver, keyset page", ask: page(keyset)},
		{name: "API, keyset page", ask: cursor("/v1/blocks?limit=10&cursor=%s")},
		{name: "API, page by observer", ask: cursor("/v1/blocks?limit=10&observer=observer-3&cursor=%s")},
		{name: "API, page by status and node", ask: cursor("/v1/blocks?limit=10&status=orphaned,safe&cursor=%s")},
		{name: "API, heights", ask: b.get(func(pick *rand.Rand) string {
			n := pick.IntN(b.o.rows - 100)
			return fmt.Sprintf("/v1/blocks?limit=10&min_number=%d&max_number=%d&sort=number", n, n+50)
		})},
		{name: "API, records of an hour", ask: b.get(func(pick *rand.Rand) string {
			at := time.UnixMicro(1700000000000000 + int64(pick.IntN(b.o.rows))*12000000).UTC()
			return fmt.Sprintf("/v1/records?limit=10&since=%s&until=%s", at.Format(time.RFC3339), at.Add(time.Hour).Format(time.RFC3339))
		})},
		{name: "API, account's transactions", ask: b.get(func(pick *rand.Rand) string {
			return fmt.Sprintf("/v1/accounts/%s/transactions?limit=10&max_number=%d", address(pick.IntN(seedAccounts)), pick.IntN(b.o.rows))
		})},
		{name: "API, one block", ask: b.get(func(pick *rand.Rand) string { return fmt.Sprint("/v1/blocks/", 1+pick.IntN(b.o.rows)) })},
		{name: "driver, OFFSET, 2 connections", ask: page(offset), slow: true},
	}, nil
}

// address is that of an account of the seed.
func address(n int) string {
	sum := sha1.Sum(fmt.Append(nil, "account ", n)) //nolint:gosec // see the import
	return "0x" + hex.EncodeToString(sum[:])
}

func readPage(ctx context.Context, statement *sql.Stmt, place int) error {
	rows, err := statement.QueryContext(ctx, seedChain, place)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	columns := make([]any, 15)
	for i := range columns {
		columns[i] = new(sql.RawBytes)
	}
	n := 0
	for rows.Next() {
		if err := rows.Scan(columns...); err != nil {
			return err
		}
		n++
	}
	if n != pageRows {
		return fmt.Errorf("%d rows at %d", n, place)
	}
	return rows.Err()
}

// places are cursors spread over the whole table.
func (b *bench) places(ctx context.Context) ([]string, error) {
	out := make([]string, cursors)
	for i := range out {
		var list struct {
			Next string `json:"next_cursor"`
		}
		body, err := b.read(ctx, fmt.Sprintf("/v1/blocks?limit=1&max_number=%d", pageRows*3+i*(b.o.rows-pageRows*3)/cursors))
		if err != nil {
			return nil, err
		}
		if err := json.Unmarshal(body, &list); err != nil {
			return nil, err
		}
		out[i] = list.Next
	}
	return out, nil
}

// get asks the API; any other answer than 200 ends the run.
func (b *bench) get(path func(*rand.Rand) string) ask {
	return func(ctx context.Context, pick *rand.Rand) error {
		_, err := b.read(ctx, path(pick))
		return err
	}
}

func (b *bench) read(ctx context.Context, path string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, b.url+path, http.NoBody)
	if err != nil {
		return nil, err
	}
	resp, err := b.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s %s", path, resp.Status, body)
	}
	return body, nil
}
