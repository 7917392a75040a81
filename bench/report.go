package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"
)

// report tells the medians of every contender, the first being the ceiling, and what the aims are about.
func report(w io.Writer, field []contender, results [][]result) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(table, "contender\toffers/s\tlowest\thighest\tof ceiling\tack p50\tp99\tCPU s/million\tpeak RSS")
	for i, c := range field {
		rate := ranked(results[i], func(r result) float64 { return r.rate })
		memory := "-"
		if rss := median(results[i], func(r result) int64 { return r.rss }); rss > 0 {
			memory = fmt.Sprintf("%d MiB", rss>>20)
		}
		_, _ = fmt.Fprintf(table, "%s\t%.0f\t%.0f\t%.0f\t%.2f\t%v\t%v\t%.1f\t%s\n", c.name, rate[len(rate)/2], rate[0],
			rate[len(rate)-1], relative(results[i], results[0]),
			median(results[i], func(r result) time.Duration { return r.p50 }).Round(10*time.Microsecond),
			median(results[i], func(r result) time.Duration { return r.p99 }).Round(10*time.Microsecond),
			median(results[i], func(r result) float64 { return r.cpu }), memory)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	of := func(name string) []result {
		i := slices.IndexFunc(field, func(c contender) bool { return c.name == name })
		if i < 0 {
			return nil
		}
		return results[i]
	}
	aims(w, of)
	return nil
}

// aims tells the figures that come from two contenders, or from one and an fsync.
func aims(w io.Writer, of func(name string) []result) {
	few, same, paced := of(fewObservers), of(sameRows), of(pacedObserver)
	if few != nil && same != nil {
		_, _ = fmt.Fprintf(w, "three observers of the same rows: %.2f times the rate of 16 observers of distinct ones\n",
			relative(same, few))
	}
	if paced != nil {
		sync := median(paced, func(r result) time.Duration { return r.sync })
		fsyncs := median(paced, func(r result) float64 { return float64(r.p50) / float64(r.sync) })
		_, _ = fmt.Fprintf(w, "ack p50 at 1,000/s: %.1f fsyncs, one of 4 KiB taking %v\n", fsyncs, sync)
	}
}

// relative is the median share of one contender's rate in another's, each of the same round: the machine is not the same
// in all.
func relative(one, other []result) float64 {
	shares := make([]float64, len(one))
	for i := range one {
		shares[i] = one[i].rate / other[i].rate
	}
	slices.Sort(shares)
	return shares[len(shares)/2]
}

func ranked[T cmp.Ordered](results []result, of func(result) T) []T {
	out := make([]T, len(results))
	for i, r := range results {
		out[i] = of(r)
	}
	slices.Sort(out)
	return out
}

func median[T cmp.Ordered](results []result, of func(result) T) T { return middle(ranked(results, of)) }

func middle[T any](sorted []T) T { return sorted[len(sorted)/2] }
