package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/firstseen/firstseen/internal/objects"
	"github.com/firstseen/firstseen/internal/replica"
	"github.com/firstseen/firstseen/schema"
)

func shippedCommand(environ []string) *cobra.Command {
	cmd := &cobra.Command{
		Use: "shipped", Short: "Show what is shipped under a role, and by whom",
		Long: `Reads the checkpoint and the index of a role from the object store: how far it is shipped, who ships and when it last
said that it lives, where each chain stands, and what lies in large segments. The exit code is 4 if nothing is shipped
under the role.`,
		Example: `  firstseen shipped --objects file:/srv/firstseen
  firstseen shipped --objects 's3://blocks/replicas?region=eu-1' --env production --role primary --output json`,
	}
	check := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		asJSON, err := check()
		if err != nil {
			return err
		}
		p, err := newParts(cmd, environ)
		if err != nil {
			return err
		}
		defer func() { _ = p.close() }() // it was only read
		ctx, cancel := context.WithTimeout(cmd.Context(), time.Minute)
		defer cancel()
		place, err := p.openObjects(ctx, false)
		if err != nil {
			return err
		}
		view, err := readShipped(ctx, place, p.config.names(p.config.Ship.Role))
		if err != nil {
			return err
		}
		if asJSON {
			return view.json(cmd.OutOrStdout())
		}
		return view.table(cmd.OutOrStdout(), time.Now())
	}
	flags := cmd.Flags()
	objectsFlags(flags)
	flags.String("role", defaults().Ship.Role, "role to show")
	bind(flags, "role", "ship.role")
	return cmd
}

// shipped is what an object store holds under a role.
type shipped struct {
	Checkpoint replica.Checkpoint     `json:"checkpoint"`
	Bulk       []replica.IndexSegment `json:"bulk"`
}

func readShipped(ctx context.Context, place objects.Store, names replica.Names) (*shipped, error) {
	stored, _, err := place.Get(ctx, names.Writer())
	if errors.Is(err, objects.ErrNotFound) {
		return nil, missingError{fmt.Sprintf("nothing is shipped under %s/%s in %s", names.Env, names.Role, place)}
	}
	if err != nil {
		return nil, err
	}
	checkpoint, err := replica.DecodeCheckpoint(stored)
	if err != nil {
		return nil, err
	}
	view := &shipped{Checkpoint: checkpoint}
	if stored, _, err = place.Get(ctx, names.Index()); errors.Is(err, objects.ErrNotFound) {
		return view, nil
	}
	if err != nil {
		return nil, err
	}
	index, err := replica.DecodeIndex(stored)
	if err != nil {
		return nil, err
	}
	view.Bulk = index.Segments
	return view, nil
}

// chainLine is where a chain stands, for people.
func chainLine(c schema.ChainState) string {
	line := fmt.Sprintf("%d\t%s", c.Head.Number, c.Head.Hash)
	if c.Halted != "" {
		line += "\thalted: " + c.Halted
	}
	return line
}

func (v *shipped) json(out io.Writer) error {
	encoder := json.NewEncoder(out)
	encoder.SetIndent("", "  ")
	return encoder.Encode(v)
}

func (v *shipped) table(out io.Writer, now time.Time) error {
	c := &v.Checkpoint
	var rows, bytes uint64
	for _, s := range v.Bulk {
		rows, bytes = rows+s.Rows, bytes+s.Bytes
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(table, "writer\t%s, number %d\n", shown(c.Holder), c.Epoch)
	fmt.Fprintf(table, "last word\t%s ago\n", now.Sub(c.At).Round(time.Second))
	fmt.Fprintf(table, "rows\t%d of %d\n", c.Seq, c.End)
	fmt.Fprintf(table, "link\t%s\n", c.Link)
	fmt.Fprintf(table, "in bulk\t%d rows in %d segments, %.1f MiB\n", rows, len(v.Bulk), float64(bytes)/(1<<20))
	for _, chain := range c.Chains {
		fmt.Fprintf(table, "chain %d\t%s\n", chain.Chain, chainLine(chain))
	}
	return table.Flush()
}
