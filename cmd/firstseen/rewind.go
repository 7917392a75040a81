package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/firstseen/firstseen/internal/replica"
	"github.com/firstseen/firstseen/internal/store"
	"github.com/firstseen/firstseen/schema"
)

// movingTakes bounds a move by hand: a deep one lists a key for each block and deletes as many.
const movingTakes = 30 * time.Minute

func rewindCommand(environ []string) *cobra.Command {
	var chain, height uint64
	var dry bool
	cmd := &cobra.Command{
		Use: "rewind", Short: "Take a replica back to a height, to follow from there once more",
		Long: `Takes one chain of a replica back to how it stood before any block above the height was told of, in one transaction; the
replica then follows on from there and fetches everything anew. Works while "firstseen follow" runs on the database and
while it does not. Nothing that was written elsewhere changes, and other chains of the replica are not touched.

Whoever reads the replica's live feed is told: blocks leave the branch, from the highest down, and come back. Blocks at or
below the height that were told of after one above it, siblings that came late for example, leave and come back too. The
audit of /v1/replica keeps who did it. --dry-run shows what would change, and changes nothing.

The exit code is 2 if the request cannot be met as it is; the error names what to do instead.`,
		Example: `  firstseen rewind --db sqlite:replica.db --objects file:/srv/firstseen --to-height 19000000 --dry-run
  firstseen rewind --db sqlite:replica.db --objects s3://blocks --env production --chain 1 --to-height 19000000 --output json`,
	}
	check := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		asJSON, err := check()
		if err != nil {
			return err
		}
		if !cmd.Flags().Changed("to-height") {
			return usagef("--to-height is missing: name the height that stays the highest; see `%s --help`", cmd.CommandPath())
		}
		p, err := newParts(cmd, environ)
		if err != nil {
			return err
		}
		defer func() { _ = p.close() }() // what was written is committed
		ctx, cancel := context.WithTimeout(cmd.Context(), movingTakes)
		defer cancel()
		o, err := p.rewindOptions(ctx, chain, cmd.Flags().Changed("chain"), height)
		if err != nil {
			return err
		}
		r, err := rewound(ctx, o, dry)
		if err != nil {
			return err
		}
		if r.BelowFinalized {
			p.log.WithField("finalized", *r.Before.Finalized).Warn("blocks below the finalized height are among those that leave")
		}
		return printRewind(cmd.OutOrStdout(), rewindViewOf(r, dry), asJSON)
	}
	flags := cmd.Flags()
	flags.Uint64Var(&height, "to-height", 0, "height that stays the highest")
	flags.Uint64Var(&chain, "chain", 0, "chain id; needed if there are several")
	flags.BoolVar(&dry, "dry-run", false, "show what would change, and change nothing")
	objectsFlags(flags)
	flags.String("db", replicaDB, "sqlite:///path/to/file of the replica")
	bind(flags, "db", "db")
	return cmd
}

// rewindOptions opens what a rewind needs.
func (p *parts) rewindOptions(ctx context.Context, chain uint64, named bool, height uint64) (replica.RewindOptions, error) {
	var o replica.RewindOptions
	s, err := p.openMoved(ctx)
	if err != nil {
		return o, err
	}
	if !named {
		if chain, err = onlyChain(ctx, s); err != nil {
			return o, err
		}
	}
	place, err := p.openObjects(ctx, false)
	if err != nil {
		return o, err
	}
	return replica.RewindOptions{Store: s, Objects: place, Env: p.config.Env, Chain: chain, Height: height, Actor: actor()}, nil
}

// openMoved opens a replica's database that is there already.
func (p *parts) openMoved(ctx context.Context) (*store.Store, error) {
	if p.config.DB == defaults().DB {
		p.config.DB = replicaDB
	}
	if absent(p.config.DB) {
		return nil, usagef("there is no replica at %s: name its file by --db", redact(p.config.DB))
	}
	s, err := p.openReplica(ctx)
	if errors.Is(err, store.ErrOwnFeed) {
		return nil, usagef("%s is no replica: what it holds cannot be had again", redact(p.config.DB))
	}
	return s, err
}

func onlyChain(ctx context.Context, s *store.Store) (uint64, error) {
	chains, err := s.Chains(ctx)
	if err != nil {
		return 0, err
	}
	if len(chains) == 1 {
		return chains[0].Chain, nil
	}
	ids := make([]string, len(chains))
	for i, c := range chains {
		ids[i] = fmt.Sprint(c.Chain)
	}
	return 0, usagef("name one of the chains by --chain: %s", cmp.Or(strings.Join(ids, ", "), "there is none yet"))
}

// rewound plans a rewind and, unless it is a dry run, does it.
func rewound(ctx context.Context, o replica.RewindOptions, dry bool) (*replica.Rewind, error) {
	r, err := replica.PlanRewind(ctx, o)
	if err == nil && !dry {
		err = r.Do(ctx)
	}
	return r, asUsage(err)
}

// asUsage gives a refusal the exit code of what the user mends by asking for something else.
func asUsage(err error) error {
	var refused replica.Refused
	if errors.As(err, &refused) {
		return usageError{refused.Error()}
	}
	return err
}

// actor is who runs this process, for the audit.
func actor() string {
	name := cmp.Or(os.Getenv("SUDO_USER"), os.Getenv("USER"), "unknown")
	if u, err := user.Current(); err == nil && os.Getenv("SUDO_USER") == "" {
		name = u.Username
	}
	host, err := os.Hostname()
	if err != nil {
		host = "localhost"
	}
	return name + "@" + host
}

// shownBlocks is how many blocks that only one side has are named.
const shownBlocks = 20

// rewindView is a rewind as it is printed.
type rewindView struct {
	DryRun bool   `json:"dry_run"`
	Chain  uint64 `json:"chain"`
	Height uint64 `json:"to_height"`
	Role   string `json:"role"`

	Before *chainView `json:"before"`
	After  *chainView `json:"after"` // null: nothing of the chain stays

	Leaving      int           `json:"leaving"`
	Lowest       *schema.Point `json:"lowest_leaving"`
	Highest      *schema.Point `json:"highest_leaving"`
	Late         uint64        `json:"late"`
	Changed      uint64        `json:"changed"`
	InBoth       int           `json:"in_both"`
	OnlyHere     []string      `json:"only_here"`
	OnlyHereAll  int           `json:"only_here_count"`
	OnlyThere    []string      `json:"only_in_object_store"`
	OnlyThereAll int           `json:"only_in_object_store_count"`

	Applied uint64 `json:"applied_seq"`
	Stood   uint64 `json:"stood_at_seq"`
	Resume  uint64 `json:"resume_seq"`

	BelowFinalized bool `json:"below_finalized"`
}

// chainView is where a chain stands.
type chainView struct {
	Root      schema.Point `json:"root"`
	Head      schema.Point `json:"head"`
	Safe      *uint64      `json:"safe"`
	Finalized *uint64      `json:"finalized"`
}

func chainViewOf(c *schema.ChainState) *chainView {
	if c == nil {
		return nil
	}
	return &chainView{Root: c.Root, Head: c.Head, Safe: c.Safe, Finalized: c.Finalized}
}

func rewindViewOf(r *replica.Rewind, dry bool) *rewindView {
	v := &rewindView{
		DryRun: dry, Chain: r.Chain, Height: r.Height, Role: r.Role, Before: chainViewOf(&r.Before), After: chainViewOf(r.After),
		Leaving: len(r.Leaving), Late: r.Late, Changed: r.Changed, InBoth: r.Both,
		OnlyHere: named(r.OnlyHere), OnlyHereAll: len(r.OnlyHere), OnlyThere: named(r.OnlyThere), OnlyThereAll: len(r.OnlyThere),
		Applied: r.Applied, Stood: r.Stood, Resume: r.Resume, BelowFinalized: r.BelowFinalized,
	}
	if n := len(r.Leaving); n > 0 {
		v.Lowest, v.Highest = &r.Leaving[0], &r.Leaving[n-1]
	}
	return v
}

func named(points []schema.Point) []string {
	out := make([]string, 0, min(len(points), shownBlocks))
	for _, p := range points[:min(len(points), shownBlocks)] {
		out = append(out, p.String())
	}
	return out
}

func printRewind(out io.Writer, v *rewindView, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(out).Encode(v)
	}
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "chain\t%d, as %s ships it\n", v.Chain, shown(v.Role))
	fmt.Fprintf(t, "head\t%s\n", v.Before.Head)
	if v.Leaving == 0 {
		fmt.Fprintf(t, "nothing\tis above height %d\n", v.Height)
		return t.Flush()
	}
	would := "was done"
	if v.DryRun {
		would = "would be done; nothing was (--dry-run)"
	}
	if v.After != nil {
		fmt.Fprintf(t, "head then\t%s\n", v.After.Head)
	} else {
		fmt.Fprintf(t, "head then\tnone: the chain comes anew from its first block\n")
	}
	fmt.Fprintf(t, "leaving\t%d blocks, from %s to %s\n", v.Leaving, v.Lowest, v.Highest)
	if v.Late > 0 {
		fmt.Fprintf(t, "\t%d of them at or below %d, told of after one above\n", v.Late, v.Height)
	}
	if v.Changed > 0 {
		fmt.Fprintf(t, "changing\t%d blocks that stay get the status that they had\n", v.Changed)
	}
	fmt.Fprintf(t, "above %d\t%d in both, %d only here, %d only in the object store\n", v.Height, v.InBoth, v.OnlyHereAll, v.OnlyThereAll)
	printStrays(t, "only here", v.OnlyHere, v.OnlyHereAll)
	printStrays(t, "only there", v.OnlyThere, v.OnlyThereAll)
	fmt.Fprintf(t, "feed\tapplied up to row %d, goes on behind row %d\n", v.Applied, v.Resume)
	fmt.Fprintf(t, "this\t%s\n", would)
	return t.Flush()
}

func printStrays(t io.Writer, what string, blocks []string, all int) {
	for _, b := range blocks {
		fmt.Fprintf(t, "%s\t%s\n", what, b)
	}
	if more := all - len(blocks); more > 0 {
		fmt.Fprintf(t, "%s\tand %d more\n", what, more)
	}
}
