package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/firstseen/firstseen/schema"
	"github.com/firstseen/firstseen/statsapi"
)

const (
	nodesPage  = 100      // rows per request, the most that the API answers
	nodesPages = 1000     // after which a list that has no end is given up
	nodesBody  = 16 << 20 // bytes of one answer
)

// direct follows no redirects: what is asked for, and the token that goes with it, is for one address.
var direct = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}

// nodesQuery is which nodes to ask for, and where.
type nodesQuery struct{ api, observer, chain, state, name string }

func nodesCommand() *cobra.Command {
	var q nodesQuery
	var output string
	cmd := &cobra.Command{
		Use:   "nodes",
		Short: "Show what observers think of their Ethereum nodes",
		Long: `Asks the stats API for each observer's view of each of its nodes: state, height, lag, latency, and the reason.

Exit codes: 0 all nodes shown are ready, 3 some are not, 1 the API could not be asked, 2 wrong usage. A node counts as
ready if its state is ready, it is not cordoned, and its observer has spoken within 25 seconds. When no node is known at
all, that is 3, too.`,
		Example: `  firstseen nodes
  firstseen nodes --api https://stats.example --chain 1 --output json`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if output != "table" && output != "json" {
				return usagef("--output %q: use table or json", output)
			}
			nodes, err := q.fetch(cmd.Context())
			if err != nil {
				return err
			}
			if err := printNodes(cmd.OutOrStdout(), output, nodes); err != nil {
				return err
			}
			return judgeNodes(nodes)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&q.api, "api", "http://"+defaults().Stats.Listen, "URL of the stats API")
	flags.StringVar(&output, "output", "table", "table or json")
	flags.StringVar(&q.observer, "observer", "", "only what this observer says")
	flags.StringVar(&q.chain, "chain", "", "only nodes of this chain id")
	flags.StringVar(&q.state, "state", "", "only nodes in this state")
	flags.StringVar(&q.name, "name", "", "only nodes of this name")
	return cmd
}

// fetch follows the list to its end.
func (q nodesQuery) fetch(ctx context.Context) ([]statsapi.Node, error) {
	base, err := url.Parse(q.api)
	if err != nil || base.Host == "" || base.Scheme != "http" && base.Scheme != "https" {
		return nil, usagef("--api: use a URL such as http://127.0.0.1:8080")
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	values := url.Values{"limit": {strconv.Itoa(nodesPage)}}
	for name, value := range map[string]string{"observer": q.observer, "chain": q.chain, "state": q.state, "node": q.name} {
		if value != "" {
			values.Set(name, value)
		}
	}
	target, nodes := base.JoinPath("v1", "nodes"), []statsapi.Node{}
	for range nodesPages {
		target.RawQuery = values.Encode()
		page, err := fetchNodes(ctx, target)
		if err != nil {
			return nil, err
		}
		nodes = append(nodes, page.Data...)
		if page.NextCursor == nil {
			return nodes, nil
		}
		values.Set("cursor", *page.NextCursor)
	}
	return nil, fmt.Errorf("%s lists more than %d nodes", base.Redacted(), nodesPage*nodesPages)
}

func fetchNodes(ctx context.Context, target *url.URL) (*statsapi.NodeList, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target.String(), http.NoBody)
	if err != nil {
		return nil, usagef("--api: %v", err)
	}
	resp, err := direct.Do(req)
	if err != nil {
		return nil, fmt.Errorf("%w (the address is set by --api)", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, nodesBody))
	if err != nil {
		return nil, fmt.Errorf("read answer of %s: %w", target.Redacted(), err)
	}
	if resp.StatusCode != http.StatusOK {
		var problem struct{ Detail string }
		_ = json.Unmarshal(body, &problem) // what is no problem has no detail
		err := fmt.Errorf("%s answers %s: %s", target.Redacted(), resp.Status, shown(problem.Detail))
		if resp.StatusCode == http.StatusBadRequest {
			return nil, usageError{err.Error()}
		}
		return nil, err
	}
	list := &statsapi.NodeList{}
	if err := json.Unmarshal(body, list); err != nil {
		return nil, fmt.Errorf("%s does not answer as the stats API does: %w", target.Redacted(), err)
	}
	return list, nil
}

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

// shown keeps what others wrote from steering the terminal.
func shown(text string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, text)
}

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
