package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/firstseen/firstseen/schema"
	"github.com/firstseen/firstseen/statsapi"
)

func nodesCommand(environ []string) *cobra.Command {
	var name string
	var cmd *cobra.Command
	cmd = apiCommand(environ, "nodes", "Show what observers think of their Ethereum nodes",
		`Asks the stats API for each observer's view of each of its nodes: state, height, lag, latency, and the reason.

A node counts as ready if its state is ready, it is not cordoned, and its observer has spoken within 25 seconds. The exit
code is 3 if not all nodes shown are ready, and if no node is known at all.`,
		func(ctx context.Context, c *apiClient, _ []string) error {
			values := parameters(cmd.Flags(), "observer", "chain", "state")
			if name != "" {
				values.Set("node", name)
			}
			nodes, err := list[statsapi.Node](ctx, c, mostNodes, values, "v1", "nodes")
			if err != nil {
				return err
			}
			if err := printNodes(c.out, c.output, nodes); err != nil {
				return err
			}
			return judgeNodes(nodes)
		})
	cmd.Example = `  firstseen nodes
  firstseen nodes --api https://stats.example --chain 1 --output json`
	flags := cmd.Flags()
	flags.String("observer", "", "only what this observer says")
	flags.String("chain", "", "only nodes of this chain id")
	flags.String("state", "", "only nodes in this state")
	flags.StringVar(&name, "name", "", "only nodes of this name")
	return cmd
}

// mostNodes is where a list that has no end is given up.
const mostNodes = 100_000

func printNodes(out io.Writer, output string, nodes []statsapi.Node) error {
	if output == "json" {
		return json.NewEncoder(out).Encode(map[string]any{"data": nodes})
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "OBSERVER\tCHAIN\tNODE\tSTATE\tHEIGHT\tLAG\tP50\tP99\tSINCE\tAGE\tREASON")
	for _, n := range nodes {
		fmt.Fprintf(table, "%s\t%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", shown(n.Observer), n.Chain, shown(n.Name),
			standing(n), known(n.Height), known(n.Lag), millis(n.LatencyP50), millis(n.LatencyP99),
			n.Since.UTC().Format(time.RFC3339), seconds(n.AgeSeconds).Round(100*time.Millisecond), shown(n.Reason))
	}
	return table.Flush()
}

// standing is the state with what makes it worth less.
func standing(n statsapi.Node) string {
	text := shown(n.State)
	if n.Cordoned {
		text += ",cordoned"
	}
	if n.Stale {
		text += ",stale"
	}
	return text
}

func known(n statsapi.OptionalNumber) string {
	if !n.Known {
		return "-"
	}
	return strconv.FormatUint(uint64(n.Number), 10)
}

func millis(s *float64) string {
	if s == nil {
		return "-"
	}
	return seconds(*s).Round(100 * time.Microsecond).String()
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// judgeNodes says whether all is well.
func judgeNodes(nodes []statsapi.Node) error {
	if len(nodes) == 0 {
		return unreadyError{"no such node is known: has an observer reported to this API's database?"}
	}
	unready := 0
	for _, n := range nodes {
		if n.State != string(schema.NodeReady) || n.Cordoned || n.Stale {
			unready++
		}
	}
	if unready > 0 {
		return unreadyError{fmt.Sprintf("%d of %d nodes are not ready", unready, len(nodes))}
	}
	return nil
}
