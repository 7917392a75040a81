// Command firstseen is the one production binary: observer, server, stats API, or all of them in one process.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
)

// version is set by the linker for released builds.
var version = "dev"

// Exit codes, as --help states them.
const (
	exitOK      = 0
	exitFailure = 1
	exitUsage   = 2
	exitUnready = 3 // of commands that ask: not all is well
	exitMissing = 4 // of commands that ask: there is no such thing
)

// unreadyError is the answer "not all is well" of a command that succeeded in asking: exit code 3.
type unreadyError struct{ text string }

func (e unreadyError) Error() string { return e.text }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Environ(), os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run is main without the process: tests call it.
func run(ctx context.Context, args, environ []string, stdout, stderr io.Writer) int {
	root := rootCommand(environ)
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	fmt.Fprintln(stderr, "firstseen:", oneLine(err))
	var usage usageError
	var unready unreadyError
	var missing missingError
	switch {
	case errors.As(err, &usage):
		return exitUsage
	case errors.As(err, &unready):
		return exitUnready
	case errors.As(err, &missing):
		return exitMissing
	}
	return exitFailure
}

func rootCommand(environ []string) *cobra.Command {
	root := &cobra.Command{
		Use:   "firstseen",
		Short: "Relay Ethereum blocks from unreliable nodes: every block stored once, by whoever saw it first",
		Long: `Observers (firstseen client) poll Ethereum nodes and push every new block to servers (firstseen server), which
store it once under its hash. The stats API (firstseen stats) tells what happened. "firstseen up" runs all three in
one process.

Every setting can come from a flag, the environment (FIRSTSEEN_SECTION__KEY, or ..._FILE naming a file that holds the
value), a YAML file (--config or FIRSTSEEN_CONFIG), or its default, in this order; "firstseen config dump" shows the result.

Exit codes: 0 success, 1 failure at run time, 2 wrong usage or configuration; others are named by their command.`,
		SilenceUsage:               true,
		SilenceErrors:              true,
		SuggestionsMinimumDistance: 2,
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usagef("%v; see `%s --help`", err, cmd.CommandPath())
	})
	flags := root.PersistentFlags()
	flags.String("config", "", "YAML file with settings")
	flags.String("log-level", "info", "trace, debug, info, warn or error")
	bind(flags, "log-level", "log.level")
	flags.String("log-format", "auto", "text, json, or auto: text on a terminal, else json")
	bind(flags, "log-format", "log.format")
	demoCommonFlags(flags)
	for _, build := range []func([]string) *cobra.Command{clientCommand, serverCommand, judgeCommand, statsCommand,
		gatewayCommand, upCommand, migrateCommand, configCommand, healthcheckCommand, cordonCommand, uncordonCommand,
		spoolCommand, keysCommand, refusalsCommand, shipCommand, shippedCommand, followCommand, rewindCommand, switchCommand, digestCommand,
		blocksCommand, blockCommand, txCommand, accountCommand, nodesCommand, connectionsCommand, observersCommand, tailCommand, replicaCommand} {
		root.AddCommand(build(environ))
	}
	root.AddCommand(versionCommand())
	strictArgs(root)
	return root
}

// strictArgs makes a stray argument a usage error that names it, on every command that takes none. A command that only
// groups others explains itself.
func strictArgs(cmd *cobra.Command) {
	if cmd.RunE == nil {
		cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	}
	if cmd.Args == nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			hint := fmt.Sprintf("see `%s --help`", cmd.CommandPath())
			if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
				hint = "did you mean " + strings.Join(near, " or ") + "?"
			}
			return usagef("unknown argument %q for `%s`; %s", args[0], cmd.CommandPath(), hint)
		}
	}
	for _, sub := range cmd.Commands() {
		strictArgs(sub)
	}
}
