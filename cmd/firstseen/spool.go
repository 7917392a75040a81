package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/firstseen/firstseen/internal/spool"
	"github.com/firstseen/firstseen/schema"
)

func spoolCommand(environ []string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "spool",
		Short: "Look into an observer's spool, or remove things from it",
		Long: `An observer started with --spool keeps there what no server has acknowledged yet, what none will take (the dead
letters), which heights it left out, and how far it got. While an observer runs, its spool is its own: stop it first, and
ask /metrics meanwhile.`,
	}
	cmd.PersistentFlags().String("spool", "", "path of the spool")
	bind(cmd.PersistentFlags(), "spool", "client.spool")
	cmd.AddCommand(spoolList(environ), spoolRemove(environ), spoolRetry(environ))
	return cmd
}

// spoolPath finds the spool that a command is about, which must be there.
func spoolPath(cmd *cobra.Command, environ []string) (string, error) {
	c, err := load(cmd.Flags(), environ)
	if err != nil {
		return "", err
	}
	if c.Client.Spool == "" {
		return "", usagef("which spool? Give --spool PATH")
	}
	return c.Client.Spool, nil
}

// lookInto reads the spool. Its errors say what to do.
func lookInto(path string) (*spool.Contents, error) {
	c, err := spool.Inspect(path)
	switch {
	case errors.Is(err, spool.ErrInUse):
		return nil, fmt.Errorf("%w: stop the observer that runs with it first", err)
	case errors.Is(err, spool.ErrDamaged):
		return nil, fmt.Errorf("%w: an observer that is started with it puts it aside as %s.corrupt and reads on from the chain", err, path)
	case errors.Is(err, os.ErrNotExist):
		return nil, fmt.Errorf("spool %s: no such file (the path is set by --spool)", path)
	}
	return c, err
}

func spoolList(environ []string) *cobra.Command {
	var (
		output string
		failed bool
	)
	cmd := &cobra.Command{
		Use:   "ls",
		Short: "List what waits, dead letters, gaps and progress",
		Example: `  firstseen spool ls --spool /var/lib/firstseen/spool
  firstseen spool ls --spool spool --failed
  firstseen spool ls --spool spool --output json | jq '.letters[].reason'`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if output != "table" && output != "json" {
				return usagef("--output %q: use table or json", output)
			}
			path, err := spoolPath(cmd, environ)
			if err != nil {
				return err
			}
			c, err := lookInto(path)
			if err != nil {
				return err
			}
			v := spoolView(path, c)
			if failed {
				v.Waiting = []spoolItem{}
			}
			if output == "json" {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(v)
			}
			return printSpool(cmd.OutOrStdout(), v, len(c.Entries))
		},
	}
	cmd.Flags().StringVar(&output, "output", "table", "table or json")
	cmd.Flags().BoolVar(&failed, "failed", false, "of the entries, list dead letters only")
	return cmd
}

// spoolListing is a spool as `spool ls --output json` prints it.
type spoolListing struct {
	Path           string        `json:"path"`
	FileBytes      int64         `json:"file_bytes"`
	Kind           string        `json:"kind"`
	Chain          *uint64       `json:"chain"`    // null before it was begun
	Finished       *schema.Point `json:"finished"` // the last block that the observer is done with
	Waiting        []spoolItem   `json:"waiting"`
	Letters        []spoolItem   `json:"letters"`
	LettersDropped uint64        `json:"letters_dropped"`
	Gaps           []schema.Gap  `json:"gaps"`
	Halted         *schema.Gap   `json:"halted"` // why the chain is not followed any more; null: it is
}

type spoolItem struct {
	Seq    uint64       `json:"seq"`
	Block  schema.Point `json:"block"`
	Bytes  int          `json:"bytes"`
	Since  time.Time    `json:"since"`
	Failed *time.Time   `json:"failed,omitempty"`
	Reason string       `json:"reason,omitempty"`
}

func spoolView(path string, c *spool.Contents) spoolListing {
	v := spoolListing{Path: path, FileBytes: c.FileBytes, Kind: c.Kind, LettersDropped: c.Dropped, Gaps: c.Progress.Gaps,
		Halted:  c.Progress.Halted,
		Waiting: []spoolItem{}, Letters: []spoolItem{}}
	if c.Progress.Chain != 0 {
		v.Chain = &c.Progress.Chain
	}
	if n := len(c.Progress.Finished); n > 0 {
		v.Finished = &c.Progress.Finished[n-1]
	}
	if v.Gaps == nil {
		v.Gaps = []schema.Gap{}
	}
	for _, e := range c.Entries {
		v.Waiting = append(v.Waiting, itemOf(e))
	}
	for _, l := range c.Letters {
		item := itemOf(l.Entry)
		item.Failed, item.Reason = &l.At, l.Reason
		v.Letters = append(v.Letters, item)
	}
	return v
}

func itemOf(e spool.Entry) spoolItem {
	return spoolItem{Seq: e.Seq, Block: e.Point, Bytes: e.Size, Since: e.Since}
}

func printSpool(out io.Writer, v spoolListing, waiting int) error {
	chain, finished := "none yet", "none yet"
	if v.Chain != nil {
		chain = strconv.FormatUint(*v.Chain, 10)
	}
	if v.Finished != nil {
		finished = v.Finished.String()
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(table, "chain\t%s\nlast block finished\t%s\nwaiting\t%d\ndead letters\t%d, %d older ones dropped\nfile\t%d bytes\n",
		chain, finished, waiting, len(v.Letters), v.LettersDropped, v.FileBytes)
	for _, g := range v.Gaps {
		fmt.Fprintf(table, "left out\t%d to %d: %s\n", g.From, g.To, shown(g.Reason))
	}
	if h := v.Halted; h != nil {
		fmt.Fprintf(table, "halted\t%d to %d: %s; resume with `firstseen client --resume-halted`\n", h.From, h.To, shown(h.Reason))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	if len(v.Waiting)+len(v.Letters) == 0 {
		return nil
	}
	fmt.Fprintln(table, "\nSEQ\tSTATE\tNUMBER\tHASH\tBYTES\tSINCE\tREASON")
	for _, list := range [][]spoolItem{v.Letters, v.Waiting} {
		for _, i := range list {
			state, since := "waiting", i.Since
			if i.Failed != nil {
				state, since = "dead", *i.Failed
			}
			fmt.Fprintf(table, "%d\t%s\t%d\t%s\t%d\t%s\t%s\n", i.Seq, state, i.Block.Number, i.Block.Hash, i.Bytes,
				since.Format(time.RFC3339), shown(i.Reason))
		}
	}
	return table.Flush()
}

func spoolRemove(environ []string) *cobra.Command {
	var letters, waiting, gaps bool
	cmd := &cobra.Command{
		Use:   "rm [SEQ...]",
		Short: "Remove entries by number, or all dead letters, all that waits, or all gaps",
		Long: `Removes what ` + "`spool ls`" + ` lists under these numbers. A block that waited will not be delivered by this observer
then: servers are told of it as a gap. How far the observer got does not change; to have it start over, remove the file.`,
		Example: `  firstseen spool rm --spool /var/lib/firstseen/spool 17 18
  firstseen spool rm --spool /var/lib/firstseen/spool --letters --gaps`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			seqs, err := parseSeqs(args)
			if err != nil {
				return err
			}
			if len(seqs) == 0 && !letters && !waiting && !gaps {
				return usagef("what to remove? Give numbers, --letters, --waiting or --gaps")
			}
			path, err := spoolPath(cmd, environ)
			if err != nil {
				return err
			}
			c, err := lookInto(path)
			if err != nil {
				return err
			}
			for _, l := range c.Letters {
				if letters {
					seqs = append(seqs, l.Seq)
				}
			}
			for _, e := range c.Entries {
				if waiting {
					seqs = append(seqs, e.Seq)
				}
			}
			return removeFrom(cmd.OutOrStdout(), path, seqs, gaps)
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&letters, "letters", false, "all dead letters")
	flags.BoolVar(&waiting, "waiting", false, "all that waits to be delivered")
	flags.BoolVar(&gaps, "gaps", false, "the memory of heights left out; servers that were told keep it")
	return cmd
}

func spoolRetry(environ []string) *cobra.Command {
	var letters bool
	cmd := &cobra.Command{
		Use:   "retry [SEQ...]",
		Short: "Have dead letters delivered again, by number or all of them",
		Long: `Puts dead letters back among what waits, behind all of it: for when what kept servers from taking them was put
right.`,
		Example: `  firstseen spool retry --spool /var/lib/firstseen/spool --letters`,
		Args:    cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			seqs, err := parseSeqs(args)
			if err != nil {
				return err
			}
			if len(seqs) == 0 && !letters {
				return usagef("what to retry? Give numbers or --letters")
			}
			path, err := spoolPath(cmd, environ)
			if err != nil {
				return err
			}
			c, err := lookInto(path)
			if err != nil {
				return err
			}
			for _, l := range c.Letters {
				if letters && !slices.Contains(seqs, l.Seq) {
					seqs = append(seqs, l.Seq)
				}
			}
			s, err := spool.Open(path, spool.Options{})
			if err != nil {
				return err
			}
			n, err := s.Retry(seqs)
			if err := errors.Join(err, s.Close()); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%d dead letters wait again\n", n)
			return nil
		},
	}
	cmd.Flags().BoolVar(&letters, "letters", false, "all dead letters")
	return cmd
}

func parseSeqs(args []string) ([]uint64, error) {
	var seqs []uint64
	for _, a := range args {
		n, err := strconv.ParseUint(a, 10, 64)
		if err != nil {
			return nil, usagef("%q is not a number that `firstseen spool ls` lists", a)
		}
		seqs = append(seqs, n)
	}
	return seqs, nil
}

func removeFrom(out io.Writer, path string, seqs []uint64, gaps bool) error {
	s, err := spool.Open(path, spool.Options{})
	if err != nil {
		return err
	}
	defer s.Close()
	if gaps { // before new ones come from what is removed
		if err := s.ForgetGaps(); err != nil {
			return err
		}
	}
	entries, letters, err := s.Remove(seqs)
	if err != nil {
		return err
	}
	if err := s.Close(); err != nil {
		return err
	}
	fmt.Fprintf(out, "removed %d that waited, %d dead letters\n", entries, letters)
	return nil
}
