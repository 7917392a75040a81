package client

import (
	"maps"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
)

// collector reads a client's figures when they are scraped, so that each is counted in one place only.
type collector struct {
	client *Client

	blocks, reorgs, receipts, raws, frames, settled, refused, connections, fulls *prometheus.Desc
	letters, gaps, halted, commits, commitTime, commitFailures                   *prometheus.Desc
	connected, waiting, waitingBytes, head                                       *prometheus.Desc
}

func newCollector(c *Client) *collector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("firstseen_client_"+name, help, labels, prometheus.Labels{"observer": c.o.Name})
	}
	return &collector{
		client:         c,
		blocks:         desc("blocks_total", "Blocks taken from the chain, by whether they could be sent.", "outcome"),
		reorgs:         desc("reorgs_total", "Branches that replaced blocks already taken."),
		receipts:       desc("receipts_unknown_total", "Blocks sent without receipts, by reason.", "reason"),
		raws:           desc("raw_left_off_total", "Blocks sent without raw JSON, or without its receipts, by reason.", "reason"),
		frames:         desc("frames_sent_total", "Frames sent, those sent again included."),
		settled:        desc("blocks_settled_total", "Blocks acked by a server.", "outcome"),
		refused:        desc("blocks_refused_total", "Blocks that no server will take, by its code.", "code"),
		connections:    desc("connections_total", "Connections to servers: made, and failed or not made.", "outcome"),
		fulls:          desc("outbox_full_total", "How often the outbox took no more and reading the chain stopped."),
		letters:        desc("dead_letters", "Blocks that no server will take, as kept for a look."),
		gaps:           desc("gaps", "Gaps of heights that will not be delivered, as far as they are told apart."),
		halted:         desc("halted", "1 while the chain is not followed, such as for a reorg too deep."),
		commits:        desc("spool_commits_total", "Transactions on the spool."),
		commitTime:     desc("spool_commit_seconds_total", "Time that these took."),
		commitFailures: desc("spool_failures_total", "Transactions on the spool that failed, such as for a full disk."),
		connected:      desc("connected", "1 while connected to a server."),
		waiting:        desc("outbox_blocks", "Blocks waiting for a server's ack."),
		waitingBytes:   desc("outbox_bytes", "Bytes of these."),
		head:           desc("head_number", "Height of the latest head. Absent while unknown."),
	}
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.blocks, c.reorgs, c.receipts, c.raws, c.frames, c.settled, c.refused,
		c.connections, c.fulls, c.letters, c.gaps, c.halted, c.commits, c.commitTime, c.commitFailures, c.connected, c.waiting, c.waitingBytes, c.head} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	count := func(d *prometheus.Desc, v uint64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	each := func(d *prometheus.Desc, m map[string]uint64) {
		for _, label := range slices.Sorted(maps.Keys(m)) {
			count(d, m[label], label)
		}
	}
	s := c.client.Stats()
	count(c.blocks, s.Observed-s.LeftOut, "sent")
	count(c.blocks, s.LeftOut, "left_out")
	count(c.reorgs, s.Reorgs)
	each(c.receipts, s.NoReceipts)
	each(c.raws, s.NoRaw)
	count(c.frames, s.Sent)
	count(c.settled, s.First, "first")
	count(c.settled, s.Duplicate, "duplicate")
	each(c.refused, s.Refused)
	count(c.connections, s.Connections, "made")
	count(c.connections, c.client.tally.read().failures, "failed")
	count(c.fulls, s.OutboxFull)
	gauge(c.letters, float64(len(s.DeadLetters)))
	gauge(c.gaps, float64(len(s.Gaps)))
	gauge(c.halted, boolean(s.Halted != ""))
	if b, ok := c.client.outbox().(spoolBox); ok {
		n := b.Counts()
		count(c.commits, n.Commits)
		out <- prometheus.MustNewConstMetric(c.commitTime, prometheus.CounterValue, n.Seconds)
		count(c.commitFailures, n.Failures)
	}
	gauge(c.connected, boolean(s.Server != ""))
	entries, bytes, _ := c.client.outbox().Depth()
	gauge(c.waiting, float64(entries))
	gauge(c.waitingBytes, float64(bytes))
	if s.Head != nil {
		gauge(c.head, float64(s.Head.Latest.Number))
	}
}

func boolean(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
