package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/firstseen/firstseen/internal/keys"
	"github.com/firstseen/firstseen/internal/store"
	"github.com/firstseen/firstseen/schema"
)

func keysCommand(environ []string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "keys",
		Short: "Create, list and revoke access keys",
		Long: `An access key lets an observer prove its name to servers that run with --require-auth (scope observe), or a reader
prove itself to the stats API (scope read). The database keeps a digest of it, so the token is shown once, when it is
created. Servers notice a revoked key within a minute and end its sessions.`,
	}
	dbFlag(cmd.PersistentFlags())
	cmd.AddCommand(keysCreate(environ), keysList(environ), keysRevoke(environ))
	return cmd
}

// withStore opens the database for one command.
func withStore(cmd *cobra.Command, environ []string, do func(context.Context, *store.Store) error) error {
	p, err := newParts(cmd, environ)
	if err != nil {
		return err
	}
	defer func() { _ = p.close() }() // nothing of ours is left unwritten in it
	if p.config.DB == "memory" {
		return usagef("a database in memory has no keys that anybody else could use: name another by --db")
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), time.Minute)
	defer cancel()
	s, err := p.openStore(ctx, false)
	if err != nil {
		return err
	}
	return do(ctx, s)
}

// outputFlag lets the user choose between what people and what programs read.
func outputFlag(cmd *cobra.Command) (check func() (asJSON bool, err error)) {
	var output string
	cmd.Flags().StringVar(&output, "output", "table", "table or json")
	return func() (bool, error) {
		if output != "table" && output != "json" {
			return false, usagef("--output %q: use table or json", output)
		}
		return output == "json", nil
	}
}

func keysCreate(environ []string) *cobra.Command {
	var observer, label, scope string
	cmd := &cobra.Command{
		Use:   "create",
		Short: "Create an access key and show its token, this once",
		Example: `  firstseen keys create --observer paris-1 --label 'rack 4'
  firstseen keys create --observer paris-1 --output json | jq -r .token > paris-1.token
  firstseen keys create --scope read --label grafana`,
	}
	check := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		asJSON, err := check()
		if err != nil {
			return err
		}
		key, token, err := keys.Mint(schema.KeyScope(scope), observer, label)
		switch {
		case err != nil && scope == string(schema.ScopeObserve) && observer == "":
			return usagef("%v: give --observer, or --scope read for a reader of the stats API", err)
		case err != nil:
			return usagef("%v", err)
		}
		return withStore(cmd, environ, func(ctx context.Context, s *store.Store) error {
			if key, err = s.CreateKey(ctx, key); err != nil {
				return err
			}
			fmt.Fprintln(cmd.ErrOrStderr(), "firstseen: the token is shown only now; keep it in a file that its owner alone may read")
			return printCreated(cmd.OutOrStdout(), key, token, asJSON)
		})
	}
	flags := cmd.Flags()
	flags.StringVar(&observer, "observer", "", "name of the observer that the key is for (scope observe)")
	flags.StringVar(&label, "label", "", "a note for people")
	flags.StringVar(&scope, "scope", string(schema.ScopeObserve), "observe: relay blocks; read: read the stats API")
	return cmd
}

func printCreated(out io.Writer, key schema.AccessKey, token keys.Token, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(out).Encode(struct {
			schema.AccessKey
			Token string `json:"token"`
		}{key, token.Reveal()})
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(table, "id\t%s\nscope\t%s\nobserver\t%s\nlabel\t%s\ntoken\t%s\n", key.ID, key.Scope, orDash(key.Observer),
		orDash(key.Label), token.Reveal())
	return table.Flush()
}

func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

func keysList(environ []string) *cobra.Command {
	cmd := &cobra.Command{Use: "list", Aliases: []string{"ls"}, Short: "List access keys, without their tokens"}
	check := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		asJSON, err := check()
		if err != nil {
			return err
		}
		return withStore(cmd, environ, func(ctx context.Context, s *store.Store) error {
			all, err := s.Keys(ctx)
			if err != nil {
				return err
			}
			if asJSON {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(all)
			}
			return printKeys(cmd.OutOrStdout(), all)
		})
	}
	return cmd
}

func printKeys(out io.Writer, all []schema.AccessKey) error {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "ID\tSCOPE\tOBSERVER\tLABEL\tCREATED\tREVOKED")
	for _, k := range all {
		revoked := "-"
		if k.RevokedAt != nil {
			revoked = k.RevokedAt.Format(time.RFC3339)
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\n", k.ID, k.Scope, orDash(k.Observer), orDash(shown(k.Label)),
			k.CreatedAt.Format(time.RFC3339), revoked)
	}
	return table.Flush()
}

func keysRevoke(environ []string) *cobra.Command {
	return &cobra.Command{
		Use:   "revoke ID",
		Short: "Revoke an access key for good",
		Long: `Revokes the key that ` + "`keys list`" + ` shows under this id. Servers end its sessions within a minute; the observer ends with
a line that says so, and so does one that is started with the key later. A revoked key cannot be had back.`,
		Example: "  firstseen keys revoke 4fvstpjzhk6dq2ra",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usagef("which key? Give its id, as `firstseen keys list` shows it")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			id := args[0]
			if token, err := keys.Parse(id); err == nil { // its owner has nothing else at hand
				id = token.ID()
			}
			if !keys.ValidID(id) {
				return usagef("this is not the id of an access key: use one that `firstseen keys list` shows")
			}
			return withStore(cmd, environ, func(ctx context.Context, s *store.Store) error {
				k, found, err := s.RevokeKey(ctx, id)
				if err != nil {
					return err
				}
				if !found {
					return fmt.Errorf("no access key %s: `firstseen keys list` shows those there are", id)
				}
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s revoked at %s\n", k.ID, k.RevokedAt.Format(time.RFC3339))
				return err
			})
		},
	}
}
