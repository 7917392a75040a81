// Command devnet runs small Ethereum networks to try firstseen against: serve is one chain in this process behind
// endpoints that misbehave on command, drive is a network of real geth processes.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := newRoot().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "devnet:", err)
		os.Exit(1)
	}
}

func newRoot() *cobra.Command {
	log := logrus.New()
	var verbose bool
	root := &cobra.Command{
		Use:   "devnet",
		Short: "Small Ethereum networks to try firstseen against",
		Long: "Small Ethereum networks to try firstseen against. The nodes' URLs are printed on standard output once they\n" +
			"answer, progress goes to standard error, and everything ends with an interrupt.",
		SilenceErrors: true,
		SilenceUsage:  true,
		PersistentPreRun: func(cmd *cobra.Command, _ []string) {
			log.SetOutput(cmd.ErrOrStderr())
			if verbose {
				log.SetLevel(logrus.DebugLevel)
			}
		},
	}
	root.PersistentFlags().BoolVarP(&verbose, "verbose", "v", false, "log what the nodes complain about")
	root.AddCommand(newServe(log), newDrive(log))
	return root
}
