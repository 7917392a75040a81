package main

import (
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"

	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/firstseen/firstseen/internal/devnet"
)

type serve struct {
	plan   plan
	opts   devnet.Options
	listen []string
	faults []string
	admin  string
}

func newServe(log *logrus.Logger) *cobra.Command {
	s := &serve{}
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "One chain in this process behind several JSON-RPC endpoints that misbehave on command",
		Long: `One chain in this process behind several JSON-RPC endpoints (HTTP) that misbehave on command.

Faults, several separated by commas:
  lag:BLOCKS   behind the others          stall     head frozen, queries answered
  slow:TIME    before each answer         lie       hashes that the headers do not have
  null         blocks lost                syncing   eth_syncing answers an object
  chain:ID     another chain's id         dark      connections closed without an answer
  hang         no answer                  garbage   an HTML page
  truncate     half the JSON              limit     429 with Retry-After
  error        500                        huge      300 MB before the answer
  drip         one byte a second          ahead:N   a head N blocks above the true one
  none         healthy

With --admin, faults and blocks can be had while it runs:
  curl -X POST 'http://ADMIN/admin/fault?endpoint=2&fault=lag:5'
  curl -X POST 'http://ADMIN/admin/mine?blocks=3'
  curl -X POST 'http://ADMIN/admin/reorg?depth=2'
  curl -X POST 'http://ADMIN/admin/split?endpoint=1&depth=2'   a branch of its own, until its next fault`,
		Example: "  devnet serve --endpoints 3 --fault 2=lag:5 --fault 3=slow:200ms --reorg 20:3",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return s.run(cmd, log) },
	}
	flags := cmd.Flags()
	s.plan.flags(flags)
	flags.StringArrayVar(&s.listen, "listen", []string{"127.0.0.1:8545"},
		"address of an endpoint (repeatable); given once, the others take the ports that follow")
	flags.IntVar(&s.opts.Endpoints, "endpoints", 3, "number of endpoints")
	flags.StringVar(&s.opts.Truth, "truth", "127.0.0.1:0", "address of the endpoint that no fault touches")
	flags.StringVar(&s.admin, "admin", "", "address of the admin port; empty for none. It asks nobody for a password")
	flags.StringArrayVar(&s.faults, "fault", nil, "ENDPOINT=FAULTS to start with, such as 2=lag:5 (repeatable)")
	flags.Uint64Var(&s.opts.Seed, "seed", 1, "decides the transactions")
	flags.Uint64Var(&s.opts.ChainID, "chain-id", 1337, "the chain's id")
	flags.IntVar(&s.opts.Transfers, "transfers", 3, "plain transfers in each block")
	flags.Uint64Var(&s.opts.Safe, "safe", 8, "blocks between the head and the safe block")
	flags.Uint64Var(&s.opts.Finalized, "finalized", 16, "blocks between the head and the finalized block")
	return cmd
}

func (s *serve) run(cmd *cobra.Command, log *logrus.Logger) (err error) {
	if err := s.plan.parse(); err != nil {
		return err
	}
	if s.opts.Listen, err = addresses(s.listen, s.opts.Endpoints); err != nil {
		return err
	}
	s.opts.Log = log
	network, err := devnet.New(s.opts)
	if err != nil {
		return err
	}
	defer network.Close()
	if err := s.breakSome(network); err != nil {
		return err
	}
	parts, ctx := errgroup.WithContext(cmd.Context())
	var admin *admin
	if s.admin != "" {
		if admin, err = newAdmin(ctx, s.admin, network); err != nil {
			return err
		}
		parts.Go(func() error { return admin.run(ctx) })
	}
	s.announce(cmd.OutOrStdout(), network, admin)
	parts.Go(func() error { return s.plan.run(ctx, network, log) })
	return parts.Wait()
}

func (s *serve) announce(out io.Writer, network *devnet.Net, admin *admin) {
	for i, e := range network.Endpoints() {
		fmt.Fprintf(out, "endpoint %d %s\n", i+1, e.URL())
	}
	fmt.Fprintf(out, "truth %s\n", network.Truth().URL())
	if admin != nil {
		fmt.Fprintf(out, "admin http://%s\n", admin.listener.Addr())
	}
}

// breakSome sets the faults of the command line.
func (s *serve) breakSome(network *devnet.Net) error {
	for _, text := range s.faults {
		number, list, _ := strings.Cut(text, "=")
		e, err := endpoint(network, number)
		if err != nil {
			return fmt.Errorf("--fault %q: %w", text, err)
		}
		faults, err := devnet.ParseFaults(list)
		if err != nil {
			return fmt.Errorf("--fault %q: %w", text, err)
		}
		e.Set(faults)
	}
	return nil
}

// endpoint finds an endpoint by its number as printed, from 1 on.
func endpoint(network *devnet.Net, number string) (*devnet.Endpoint, error) {
	all := network.Endpoints()
	i, err := strconv.Atoi(number)
	if err != nil || i < 1 || i > len(all) {
		return nil, fmt.Errorf("no endpoint %q: they are 1 to %d", number, len(all))
	}
	return all[i-1], nil
}

// addresses extends a single address to one for each endpoint, on consecutive ports.
func addresses(listen []string, endpoints int) ([]string, error) {
	if endpoints < 1 {
		return nil, fmt.Errorf("--endpoints %d: use 1 or more", endpoints)
	}
	if len(listen) != 1 {
		return listen, nil
	}
	host, text, err := net.SplitHostPort(listen[0])
	if err != nil {
		return nil, fmt.Errorf("--listen %q: %w", listen[0], err)
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("--listen %q: %w", listen[0], err)
	}
	all := make([]string, endpoints)
	for i := range all {
		all[i] = net.JoinHostPort(host, strconv.FormatUint(port, 10))
		if port != 0 {
			port++
		}
	}
	return all, nil
}
