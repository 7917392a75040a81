package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"net/url"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"

	"github.com/firstseen/firstseen/internal/presence"
	"github.com/firstseen/firstseen/internal/store"
	"github.com/firstseen/firstseen/schema"
)

// Keys of the original demo's Redis: when each payload came, and how many came from each address.
const (
	demoHashes  = "eth:hashes"
	demoClients = "eth:ip_addresses"
)

// importRows is how many payloads are read, looked up and offered at a time.
const importRows = 500

// importServer is the server that imported records say they came to.
const importServer = "import-demo"

func importDemoCommand(environ []string) *cobra.Command {
	var dry bool
	cmd := &cobra.Command{
		Use:   "import-demo",
		Short: "Copy the original demo's payloads and client counts into the database",
		Long: `Reads the table ethereum_data of the demo's database (--from) and, if given, the demo's Redis (--from-redis), which
knows when payloads came and from where. Payloads become bare records under the same hash. It may run any number of times,
also beside running servers: a payload that is there already stays as it is, and counts of one Redis are added once.

A row whose hash is not that of its payload is left out and logged: the demo's tables could not hold every payload.

Passwords are better given as FIRSTSEEN_IMPORT__FROM and FIRSTSEEN_IMPORT__FROM_REDIS, or ..._FILE naming a file.`,
		Example: `  firstseen migrate import-demo --from mysql://root@127.0.0.1:3306/ethereum --from-redis redis://127.0.0.1:6379/0`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, err := newParts(cmd, environ)
			if err != nil {
				return err
			}
			if p.config.Import.From == "" {
				return usagef("name the demo's database, as in --from mysql://root@127.0.0.1:3306/ethereum")
			}
			done, err := importDemo(cmd.Context(), p, dry)
			if err = errors.Join(err, p.close()); err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), done)
			return err
		},
	}
	flags := cmd.Flags()
	flags.String("from", "", "the demo's database, as mysql://user:password@host:port/database")
	bind(flags, "from", "import.from")
	flags.String("from-redis", "", "the demo's Redis, as redis://host:port/db (default: none)")
	bind(flags, "from-redis", "import.from_redis")
	flags.BoolVar(&dry, "dry-run", false, "only say what would be copied")
	dbFlag(flags)
	return cmd
}

// imported is what an import did.
type imported struct {
	dry                   bool
	fresh, known, skipped int // payloads
	clients, strange      int
	clientsKnown          bool
}

func (i *imported) String() string {
	verb := "copied"
	if i.dry {
		verb = "would copy"
	}
	text := fmt.Sprintf("%s %d payloads", verb, i.fresh)
	if n := i.known; n > 0 {
		text += fmt.Sprintf(", %d were there", n)
	}
	if n := i.skipped; n > 0 {
		text += fmt.Sprintf(", %d left out", n)
	}
	switch {
	case i.clientsKnown:
		text += "; counts of clients had been added before"
	case i.clients > 0:
		text += fmt.Sprintf("; counts of %d clients", i.clients)
	}
	if i.strange > 0 {
		text += fmt.Sprintf("; %d clients left out that are no addresses", i.strange)
	}
	return text
}

func importDemo(ctx context.Context, p *parts, dry bool) (*imported, error) {
	demo, err := store.OpenDemo(ctx, p.config.Import.From)
	if err != nil {
		return nil, fmt.Errorf("%w (it is set by --from)", err)
	}
	p.opened = append(p.opened, demo)
	var times redis.UniversalClient
	if p.config.Import.FromRedis != "" {
		if times, err = presence.Dial(p.config.Import.FromRedis); err != nil {
			return nil, usagef("--from-redis: %v", err)
		}
		p.opened = append(p.opened, times)
		redis.SetLogger(redisLog{p.component("redis")})
	}
	s, err := p.openStore(ctx, !dry)
	if err != nil {
		return nil, err
	}
	out := &imported{dry: dry}
	err = committing(ctx, s, func(ctx context.Context) error { return copyPayloads(ctx, p.log, demo, times, s, out) })
	if err == nil && times != nil {
		err = copyClients(ctx, times, p.config.Import.FromRedis, s, out)
	}
	return out, err
}

// committing runs the store's committer while do runs.
func committing(ctx context.Context, s *store.Store, do func(context.Context) error) error {
	running, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- s.Run(running) }()
	err := do(ctx)
	stop()
	return errors.Join(err, <-ended)
}

func copyPayloads(
	ctx context.Context, log logrus.FieldLogger, demo *store.Demo, times redis.UniversalClient, s *store.Store, out *imported,
) error {
	now := time.Now().UTC()
	for last := uint64(0); ; {
		rows, err := demo.Rows(ctx, last, importRows)
		if err != nil || len(rows) == 0 {
			return err
		}
		last = rows[len(rows)-1].ID
		var offers []*schema.Offer
		for _, r := range rows {
			key := schema.PayloadKey(r.Payload)
			if len(r.Payload) == 0 || string(key) != r.Hash {
				out.skipped++
				log.WithField("id", r.ID).Warn("left out: the hash is not that of the payload")
				continue
			}
			offers = append(offers, &schema.Offer{
				Chain: schema.BareChain, Key: key, ContentType: "application/octet-stream", Payload: r.Payload,
				Server: importServer, ReceivedAt: now,
			})
		}
		if err := stamp(ctx, times, offers); err != nil {
			return err
		}
		if err := offerAll(ctx, s, offers, out); err != nil {
			return err
		}
	}
}

// stamp sets when payloads came, where the demo's Redis knows.
func stamp(ctx context.Context, times redis.UniversalClient, offers []*schema.Offer) error {
	if times == nil || len(offers) == 0 {
		return nil
	}
	scores := make([]*redis.FloatCmd, len(offers))
	_, err := times.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, o := range offers {
			scores[i] = p.ZScore(ctx, demoHashes, string(o.Key))
		}
		return nil
	})
	if err != nil && !errors.Is(err, redis.Nil) {
		return fmt.Errorf("read %s of the demo's Redis: %w", demoHashes, err)
	}
	const latest = 253402300799 // the last second that RFC 3339 can write
	for i, o := range offers {
		if at, err := scores[i].Result(); err == nil && at > 0 && at < latest {
			seconds, part := math.Modf(at)
			o.ReceivedAt = time.Unix(int64(seconds), int64(part*1e9)).UTC()
		}
	}
	return nil
}

// offerAll stores payloads, or, for a dry run, looks which are there, and waits until all are settled.
func offerAll(ctx context.Context, s *store.Store, offers []*schema.Offer, out *imported) error {
	if out.dry {
		for _, o := range offers {
			found, err := s.RecordsByKey(ctx, o.Key, []uint64{schema.BareChain})
			if err != nil {
				return err
			}
			out.settle(len(found) == 0)
		}
		return nil
	}
	settled := make(chan schema.Settlement, len(offers)) // so that the committer never waits for this goroutine
	for _, o := range offers {
		if err := s.Offer(ctx, o, func(to schema.Settlement) { settled <- to }); err != nil {
			return err
		}
	}
	for range offers {
		to := <-settled
		if to.Outcome != schema.First && to.Outcome != schema.Duplicate {
			return fmt.Errorf("a payload was not stored: %s %s", to.Outcome, to.Reason)
		}
		out.settle(to.Outcome == schema.First)
	}
	return nil
}

func (i *imported) settle(fresh bool) {
	if fresh {
		i.fresh++
	} else {
		i.known++
	}
}

// copyClients adds the counts by address. The demo took "[" for the address of every IPv6 client: that is nobody's.
func copyClients(ctx context.Context, from redis.UniversalClient, rawURL string, s *store.Store, out *imported) error {
	fields := map[string]string{} // HSCAN may tell one more than once
	for cursor := uint64(0); ; {
		pairs, next, err := from.HScan(ctx, demoClients, cursor, "", importRows).Result()
		if err != nil {
			return fmt.Errorf("read %s of the demo's Redis: %w", demoClients, err)
		}
		for i := 0; i+1 < len(pairs); i += 2 {
			fields[pairs[i]] = pairs[i+1]
		}
		if cursor = next; cursor == 0 {
			break
		}
	}
	counts := out.byAddress(fields)
	out.clients = len(counts)
	if out.dry {
		return nil
	}
	added, err := s.AddClients(ctx, demoSource(rawURL), counts)
	out.clientsKnown = !added
	return err
}

// byAddress adds up what is of one address, which may be spelled in several ways.
func (i *imported) byAddress(fields map[string]string) []schema.ClientCount {
	sums := map[string]uint64{}
	for text, count := range fields {
		addr, err := netip.ParseAddr(text)
		n, err2 := strconv.ParseUint(count, 10, 63)
		if err != nil || err2 != nil || n == 0 {
			i.strange++
			continue
		}
		sums[addr.Unmap().WithZone("").String()] += n
	}
	counts := make([]schema.ClientCount, 0, len(sums))
	for ip, n := range sums {
		counts = append(counts, schema.ClientCount{IP: ip, Count: n})
	}
	return counts
}

// demoSource names a Redis without its password, so that its counts are added once.
func demoSource(rawURL string) string {
	u, err := url.Parse(rawURL)
	if err != nil {
		u = &url.URL{}
	}
	sum := sha256.Sum256([]byte(u.Host + u.Path))
	return "demo clients of Redis " + hex.EncodeToString(sum[:16])
}
