package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"text/tabwriter"
	"time"
)

const replicas = 3

// reading tells what replicas answer together, beside one of them, and beside one API over MariaDB.
func (p *place) reading(ctx context.Context, path string) error {
	dsns := make([]string, replicas)
	for i := range dsns {
		copied := filepath.Join(p.dir, fmt.Sprintf("reads-%d.db", i))
		if err := copyFile(ctx, path, copied); err != nil {
			return err
		}
		dsns[i] = dsnOf(copied)
	}
	field := []contender{{"1 replica", dsns[:1]}, {fmt.Sprint(replicas, " replicas"), dsns}}
	mysql, drop, err := freshMySQL(ctx)
	if err != nil {
		return err
	}
	defer drop()
	if mysql == "" {
		fmt.Fprintf(os.Stderr, "replica: no MySQL: set %s to read from one, too\n", mysqlVariable)
	} else {
		if err := p.fillMySQL(ctx, mysql); err != nil {
			return err
		}
		field = append([]contender{{"MariaDB or MySQL, 1 API", []string{mysql}}}, field...)
	}
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintf(table, "reads over %d connections\tone block/s\tp99\tpage of 10/s\tp99\tCPU µs of APIs for a block\tfor a page\n", p.conns)
	for _, c := range field {
		if err := p.contest(ctx, table, c); err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
	}
	return table.Flush()
}

// contender is some processes that answer, each from its database.
type contender struct {
	name string
	dsns []string
}

func (p *place) contest(ctx context.Context, table io.Writer, c contender) error {
	var apis []*served
	defer func() {
		for _, s := range apis {
			s.close()
		}
	}()
	for _, dsn := range c.dsns {
		s, err := start(ctx, dsn)
		if err != nil {
			return err
		}
		apis = append(apis, s)
	}
	block, err := p.readFrom(ctx, apis, "/v1/blocks/%d?chain=1337")
	if err != nil {
		return err
	}
	page, err := p.readFrom(ctx, apis, "/v1/blocks?limit=10&max_number=%d")
	if err != nil {
		return err
	}
	_, _ = fmt.Fprintf(table, "%s\t%.0f\t%v\t%.0f\t%v\t%.0f\t%.0f\n", c.name, block.rate, block.p99.Round(100*time.Microsecond),
		page.rate, page.p99.Round(100*time.Microsecond), block.cpu, page.cpu)
	return nil
}

type answers struct {
	rate float64 // a second
	p99  time.Duration
	cpu  float64 // microseconds of the processes' time for each
}

// readFrom asks all processes at once, as fast as they answer.
func (p *place) readFrom(ctx context.Context, apis []*served, path string) (a answers, err error) {
	web := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: p.conns, DisableCompression: true}}
	defer web.CloseIdleConnections()
	var (
		mu   sync.Mutex
		took []time.Duration
		errs []error
		work sync.WaitGroup
	)
	used := -cpuOf(apis)
	begun := time.Now()
	for i := range p.conns {
		work.Go(func() {
			pick, base := rand.New(rand.NewPCG(uint64(i), 1)), "http://"+apis[i%len(apis)].addr
			var mine []time.Duration
			var err error
			for err == nil && ctx.Err() == nil && time.Since(begun) < p.reads {
				at := time.Now()
				err = get(ctx, web, base+fmt.Sprintf(path, 100+pick.IntN(p.blocks-100)))
				mine = append(mine, time.Since(at))
			}
			mu.Lock()
			defer mu.Unlock()
			took, errs = append(took, mine...), append(errs, err)
		})
	}
	work.Wait()
	spent := time.Since(begun)
	used += cpuOf(apis)
	if err := errors.Join(errs...); err != nil {
		return a, err
	}
	slices.Sort(took)
	return answers{
		rate: float64(len(took)) / spent.Seconds(), p99: took[len(took)*99/100],
		cpu: float64(used.Microseconds()) / float64(len(took)),
	}, nil
}

func get(ctx context.Context, web *http.Client, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return err
	}
	resp, err := web.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s %.200s", url, resp.Status, body)
	}
	return err
}

// fillMySQL stores the same blocks as the writer has.
func (p *place) fillMySQL(ctx context.Context, dsn string) error {
	s, err := openRunning(ctx, dsn)
	if err != nil {
		return err
	}
	g, err := newGenerator(p.transactions)
	if err == nil {
		err = fill(ctx, s.Store, g, p.blocks)
	}
	return errors.Join(err, s.close())
}
