package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/firstseen/firstseen/schema"
	"github.com/firstseen/firstseen/statsapi"
)

func replicaCommand(environ []string) *cobra.Command {
	cmd := apiCommand(environ, "replica", "Show how a replica stands towards its writer",
		`Asks the stats API of a replica: what it is doing and why, how far it is behind in rows, blocks and seconds, how digests
compared, and what operators did to it by hand.

The exit code is 3 if it is not following or a digest differs, and 4 if that process is no replica.`,
		func(ctx context.Context, c *apiClient, _ []string) error {
			var r statsapi.ReplicaStatus
			if err := c.get(ctx, &r, nil, "v1", "replica"); err != nil {
				return err
			}
			err := printReplica(c, &r)
			if err != nil {
				return err
			}
			return judgeReplica(&r)
		})
	cmd.Example = `  firstseen replica --api http://127.0.0.1:8081`
	return cmd
}

func printReplica(c *apiClient, r *statsapi.ReplicaStatus) error {
	if c.output == "json" {
		return c.json(r)
	}
	err := c.table("", func(t *table) {
		t.line("follows", r.Env+"/"+r.Role)
		t.line("phase", r.Phase, r.Reason)
		t.line("since", stampOf(r.Since))
		t.line("rows", number(r.AppliedSeq), "of "+known(r.WriterSeq))
		lag := "unknown: nothing was heard of the writer"
		switch {
		case r.LagSeconds != nil:
			lag = seconds(*r.LagSeconds).Round(time.Millisecond).String()
		case r.WriterAt.Time != nil:
			lag = "unknown: the writer was last heard of at " + stampOf(*r.WriterAt.Time) + ", by its clock"
		}
		t.line("lag", lag)
		t.line("digests", number(r.Digests.Equal)+" equal", fmt.Sprint(len(r.Digests.Differ), " differ"))
		for _, chain := range r.Chains {
			t.line("chain "+number(chain.Chain), number(chain.Number)+" of "+known(chain.WriterNumber), known(chain.LagBlocks)+" behind")
		}
		for _, d := range r.Digests.Differ {
			t.line("differs", "chain "+number(d.Chain), number(d.From)+" to "+number(d.To))
		}
	})
	if err != nil || len(r.Audit) == 0 {
		return err
	}
	fmt.Fprintln(c.out)
	return c.table("AT ACTOR ACTION DETAIL", func(t *table) {
		for _, e := range r.Audit {
			t.line(stampOf(e.At), e.Actor, e.Action, detailText(e.Detail))
		}
	})
}

// judgeReplica says whether all is well.
func judgeReplica(r *statsapi.ReplicaStatus) error {
	switch {
	case r.Phase != string(schema.ReplicaFollowing):
		return unreadyError{"the replica is not following: " + r.Phase}
	case len(r.Digests.Differ) > 0:
		return unreadyError{fmt.Sprintf("%d ranges of heights are not as the writer has them", len(r.Digests.Differ))}
	}
	return nil
}

// detailText shows an audit entry's detail in one line.
func detailText(detail map[string]any) string {
	text, err := json.Marshal(detail)
	if err != nil {
		return ""
	}
	return string(text)
}
