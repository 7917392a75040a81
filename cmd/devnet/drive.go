package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/exec"

	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"

	"github.com/firstseen/firstseen/internal/devnet"
)

// gethVariable names the geth that the tests use; drive falls back on it.
const gethVariable = "FIRSTSEEN_TEST_GETH"

func newDrive(log *logrus.Logger) *cobra.Command {
	var plan plan
	var opts devnet.GethOptions
	cmd := &cobra.Command{
		Use:   "drive",
		Short: "A network of real, peered geth processes, its blocks made by this process through the Engine API",
		Long: "A network of real, peered geth processes. This process builds the blocks and hands them to every node through\n" +
			"the Engine API, so reorgs happen at an exact fork point and at the same moment everywhere.",
		Example: "  devnet drive --geth ./geth --nodes 2 --blocks 60 --period 1s --reorg 30:3",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if err := plan.parse(); err != nil {
				return err
			}
			if opts.Path, err = findGeth(opts.Path); err != nil {
				return err
			}
			opts.Log = log
			return drive(cmd, &plan, opts, log)
		},
	}
	flags := cmd.Flags()
	plan.flags(flags)
	flags.StringVar(&opts.Path, "geth", "", "the geth binary (default $"+gethVariable+", else geth in PATH)")
	flags.IntVar(&opts.Nodes, "nodes", 2, "number of processes")
	flags.Uint64Var(&opts.Seed, "seed", 1, "decides the transactions")
	flags.Uint64Var(&opts.ChainID, "chain-id", 1337, "the chain's id")
	flags.IntVar(&opts.Transfers, "transfers", 3, "plain transfers in each block")
	flags.Uint64Var(&opts.Safe, "safe", 8, "blocks between the head and the safe block")
	flags.Uint64Var(&opts.Finalized, "finalized", 16, "blocks between the head and the finalized block")
	return cmd
}

func findGeth(path string) (string, error) {
	path = cmp.Or(path, os.Getenv(gethVariable), "geth")
	found, err := exec.LookPath(path)
	if err != nil {
		return "", fmt.Errorf("no geth: %w; name one with --geth, or run under deploy/dev/with-services", err)
	}
	return found, nil
}

func drive(cmd *cobra.Command, p *plan, opts devnet.GethOptions, log *logrus.Logger) (err error) {
	geths, err := devnet.StartGeths(cmd.Context(), opts)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, geths.Close()) }()
	for i, one := range geths.Nodes() {
		fmt.Fprintf(cmd.OutOrStdout(), "geth %d %s %s\n", i+1, one.URL(), one.WebSocketURL())
	}
	return p.run(cmd.Context(), geths, log)
}
