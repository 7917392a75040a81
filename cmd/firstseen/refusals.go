package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/firstseen/firstseen/server"
)

const refusalsPath = "/v1/refusals"

// tellRefusals answers with a server's newest refusals.
func tellRefusals(refusals func() []server.Refusal) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		if refusals == nil {
			http.Error(w, "this process is no server", http.StatusNotFound)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(refusals()) // whoever asked has gone
	}
}

func refusalsCommand(environ []string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "refusals",
		Short: "List what a server refused for good",
		Long: "Asks a server for its dead letters: the newest 256 payloads since its start that it refused, and why.\n" +
			"An observer keeps its own, with their content: see `firstseen spool ls`.\n\n" + aboutAdminAccess,
		Example: `  FIRSTSEEN_ADMIN_TOKEN_FILE=/run/secrets/admin firstseen refusals --admin 127.0.0.1:9090`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := adminTarget(cmd.Flags(), environ)
			if err != nil {
				return err
			}
			list, err := askRefusals(cmd.Context(), c)
			if err != nil {
				return err
			}
			return listRefusals(cmd.OutOrStdout(), list)
		},
	}
	cmd.Flags().String("admin", "", "host:port of the server's admin port")
	bind(cmd.Flags(), "admin", "admin")
	return cmd
}

func askRefusals(ctx context.Context, c Config) (list []server.Refusal, err error) {
	body, err := callAdmin(ctx, c, http.MethodGet, refusalsPath)
	if err == nil {
		err = json.Unmarshal(body, &list)
	}
	if err != nil {
		return nil, fmt.Errorf("read refusals: %w", err)
	}
	return list, nil
}

func listRefusals(out io.Writer, list []server.Refusal) error {
	if len(list) == 0 {
		_, err := fmt.Fprintln(out, "nothing was refused")
		return err
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "at\tmode\tremote\tobserver\tchain\tkey\tbytes\tcode\treason")
	for _, r := range list {
		chain := "-"
		if r.Chain != 0 {
			chain = fmt.Sprint(r.Chain)
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%d\t%s\t%s\n", r.At.Format(time.RFC3339), shown(r.Mode), shown(r.Remote),
			orDash(shown(r.Observer)), chain, orDash(shown(string(r.Key))), r.Bytes, shown(r.Code), shown(r.Reason))
	}
	return table.Flush()
}
