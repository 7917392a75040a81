package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/firstseen/firstseen/schema"
)

// cordoner takes nodes out of use by hand, and back. An error means that it has no node of that name.
type cordoner interface {
	Cordon(name string) error
	Uncordon(name string) error
}

// turnNode handles one of a cordoner's two methods for the node that the path names.
func turnNode(nodes cordoner, turn func(c cordoner, name string) error, done string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if nodes == nil {
			http.Error(w, "this process holds no nodes: ask the one that does, an observer or a gateway", http.StatusNotFound)
			return
		}
		if err := turn(nodes, r.PathValue("name")); err != nil {
			http.Error(w, err.Error(), http.StatusNotFound)
			return
		}
		fmt.Fprintln(w, done)
	}
}

const aboutAdminAccess = `The token is that process's admin_token: from the configuration file, FIRSTSEEN_ADMIN_TOKEN, or
FIRSTSEEN_ADMIN_TOKEN_FILE naming a file that holds it. It travels in plain HTTP, so keep admin ports on loopback or a
private network.`

const aboutCordon = "Asks the process that holds the node, an observer or a gateway, on its admin port. " + aboutAdminAccess +
	" A\ncordon lasts until it is undone or the process ends."

func cordonCommand(environ []string) *cobra.Command {
	cmd := turnCommand("cordon", "Take a node out of use until it is uncordoned", environ)
	cmd.Long = "Keeps a node from being used; it goes on being watched.\n\n" + aboutCordon
	cmd.Example = `  FIRSTSEEN_ADMIN_TOKEN_FILE=/run/secrets/admin firstseen cordon geth-1 --admin 127.0.0.1:9090`
	return cmd
}

func uncordonCommand(environ []string) *cobra.Command {
	cmd := turnCommand("uncordon", "Let a cordoned node be used again", environ)
	cmd.Long = "Ends a cordon: the node is used again once it is ready.\n\n" + aboutCordon
	return cmd
}

func turnCommand(verb, short string, environ []string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   verb + " NODE",
		Short: short,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 || !schema.ValidName(args[0]) {
				return usagef("name one node, as `firstseen nodes` shows it; see `%s --help`", cmd.CommandPath())
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := adminTarget(cmd.Flags(), environ)
			if err != nil {
				return err
			}
			answer, err := askAdmin(cmd.Context(), c, "/v1/nodes/"+args[0]+"/"+verb)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "node %s is %s\n", args[0], answer)
			return err
		},
	}
	cmd.Flags().String("admin", "", "host:port of the admin port of the process that holds the node")
	bind(cmd.Flags(), "admin", "admin")
	return cmd
}

// adminTarget loads the configuration and checks what of it these commands use.
func adminTarget(flags *pflag.FlagSet, environ []string) (Config, error) {
	c, err := load(flags, environ)
	if err != nil {
		return Config{}, err
	}
	if _, port, err := net.SplitHostPort(c.Admin); err != nil || port == "" {
		return Config{}, usagef("--admin %q: use host:port of the process to ask, as in 127.0.0.1:9090", c.Admin)
	}
	if c.AdminToken == "" {
		return Config{}, usagef("no admin token: set FIRSTSEEN_ADMIN_TOKEN to that of the process at %s, or "+
			"FIRSTSEEN_ADMIN_TOKEN_FILE to a file that holds it", c.Admin)
	}
	return c, c.validateAdmin()
}

// askAdmin posts to a path of the admin port and returns its answer.
func askAdmin(ctx context.Context, c Config, path string) (string, error) {
	body, err := callAdmin(ctx, c, http.MethodPost, path)
	return shown(strings.TrimSpace(string(body))), err
}

// callAdmin asks the admin port with its token and returns the answer's body.
func callAdmin(ctx context.Context, c Config, method, path string) ([]byte, error) {
	return callAdminAt(ctx, c, method, url.URL{Path: path}, 5*time.Second)
}

// callAdminAt is callAdmin for what takes a query, or its time.
func callAdminAt(ctx context.Context, c Config, method string, target url.URL, timeout time.Duration) ([]byte, error) {
	const most = 1 << 20 // bytes of an answer
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	target.Scheme, target.Host = "http", c.Admin
	req, err := http.NewRequestWithContext(ctx, method, target.String(), http.NoBody)
	if err != nil {
		return nil, usagef("--admin: %v", err)
	}
	req.Header.Set("Authorization", "Bearer "+c.AdminToken)
	resp, err := direct.Do(req)
	if err != nil {
		return nil, fmt.Errorf("%w (the address is set by --admin)", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, most))
	if err != nil {
		return nil, fmt.Errorf("read answer of %s: %w", c.Admin, err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answers %s: %s", c.Admin, resp.Status, shown(strings.TrimSpace(string(body))))
	}
	return body, nil
}
