package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"
)

// judgeCommand runs what servers in other languages leave to ours. Each of our servers does it as well.
func judgeCommand(environ []string) *cobra.Command {
	cmd := command("judge", "Decide the status of blocks that servers in other languages stored",
		`Places the blocks and takes in the reports that servers of another implementation leave in the database, and decides
which branch is canonical. Every server of this implementation does the same; a fleet without one needs this. Any number
may run at once.`, environ,
		func(ctx context.Context, _ *cobra.Command, p *parts) error {
			s, err := p.openStore(ctx, false)
			if err != nil {
				return err
			}
			if err := p.writable(ctx, s); err != nil {
				return err
			}
			p.group.Add("judge", 5*time.Second, s.RunJudge)
			return p.addAdmin(ctx)
		})
	cmd.Example = `  firstseen judge --db mysql://firstseen@db.example/firstseen`
	dbFlag(cmd.Flags())
	adminFlag(cmd.Flags())
	return cmd
}
