package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/firstseen/firstseen/internal/store"
	"github.com/firstseen/firstseen/schema"
)

// digestBlocks is how many heights one digest sums up, from a multiple of it on.
const digestBlocks = 1000

func digestCommand(environ []string) *cobra.Command {
	cmd := &cobra.Command{
		Use: "digest", Short: "Print digests of what a database holds, to compare two",
		Long: `Sums up every thousand heights of each chain, siblings and statuses included, from one moment. Two databases that hold the
same print the same, whatever kind they are: a writer on MySQL and its replica on SQLite. Payloads are summed up apart,
and not where retention has taken some. The exit code is 4 if nothing of --chain is stored.`,
		Example: `  firstseen digest --db mysql://firstseen@db.example/firstseen > writer
  firstseen digest --db sqlite:replica.db | diff writer -
  firstseen digest --db sqlite:replica.db --chain 1 --json`,
	}
	flags := cmd.Flags()
	dbFlag(flags)
	chain := flags.Uint64("chain", 0, "only this chain (default: all)")
	asJSON := flags.Bool("json", false, "print one JSON object for each thousand heights")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		p, err := newParts(cmd, environ)
		if err != nil {
			return err
		}
		defer func() { _ = p.close() }()
		if absent(p.config.DB) {
			return usagef("there is no database at %s: name its file by --db", redact(p.config.DB))
		}
		s, err := p.openStore(cmd.Context(), false)
		if err != nil {
			return err
		}
		digests, err := digestsOf(cmd.Context(), s, *chain)
		if err != nil {
			return err
		}
		if *asJSON {
			return printDigestLines(cmd.OutOrStdout(), digests)
		}
		return printDigests(cmd.OutOrStdout(), digests)
	}
	return cmd
}

// digestsOf sums up all heights from the lowest to the highest block of each chain. Blocks stored meanwhile are in none
// or in all of the sums: one snapshot holds them.
func digestsOf(ctx context.Context, s *store.Store, only uint64) ([]schema.RangeDigest, error) {
	bounds, err := s.HeightBounds(ctx)
	if err != nil {
		return nil, err
	}
	var ranges []schema.HeightRange
	for _, b := range bounds {
		if only != 0 && b.Chain != only {
			continue
		}
		for from := b.From - b.From%digestBlocks; from <= b.To; from += digestBlocks {
			ranges = append(ranges, schema.HeightRange{Chain: b.Chain, From: from, To: from + digestBlocks - 1})
		}
	}
	if only != 0 && len(ranges) == 0 {
		return nil, missingError{fmt.Sprintf("chain %d is not stored here", only)}
	}
	_, _, digests, err := s.Digests(ctx, ranges...)
	return digests, err
}

func printDigestLines(out io.Writer, digests []schema.RangeDigest) error {
	encoder := json.NewEncoder(out)
	for i := range digests {
		if err := encoder.Encode(&digests[i]); err != nil {
			return fmt.Errorf("print digests: %w", err)
		}
	}
	return nil
}

// printDigests leaves the seq out, which goes on while all that is summed up stays the same.
func printDigests(out io.Writer, digests []schema.RangeDigest) error {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "CHAIN\tFROM\tTO\tBLOCKS\tFACTS\tPAYLOADS")
	for _, d := range digests {
		payloads := "pruned"
		if d.Payloads != nil {
			payloads = string(d.Payloads.Key())
		}
		fmt.Fprintf(table, "%d\t%d\t%d\t%d\t%s\t%s\n", d.Chain, d.From, d.To, d.Blocks, d.Facts.Key(), payloads)
	}
	if err := table.Flush(); err != nil {
		return fmt.Errorf("print digests: %w", err)
	}
	return nil
}
