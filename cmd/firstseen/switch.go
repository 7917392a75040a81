package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/firstseen/firstseen/internal/replica"
	"github.com/firstseen/firstseen/internal/store"
	"github.com/firstseen/firstseen/schema"
)

const switchPath = "/v1/replica/switch"

// switcher makes the replica of this process follow another role; nil without an error if it does so already.
type switcher func(ctx context.Context, role, actor string) (*replica.Switch, error)

// switchView is a change of roles as it is told and printed.
type switchView struct {
	From    string              `json:"from"`
	To      string              `json:"to"`
	Applied uint64              `json:"applied_seq"` // of the former role's feed
	Resume  uint64              `json:"resume_seq"`  // of the new role's
	Chains  []switchedChainView `json:"chains"`
}

type switchedChainView struct {
	Chain   uint64        `json:"chain"`
	Head    schema.Point  `json:"head"`
	Meet    *schema.Point `json:"meet"` // null: the whole chain comes anew
	Leaving int           `json:"leaving"`
}

func switchViewOf(w *replica.Switch) *switchView {
	v := &switchView{From: w.From, To: w.To, Applied: w.Applied, Resume: w.Resume, Chains: []switchedChainView{}}
	for _, c := range w.Chains {
		v.Chains = append(v.Chains, switchedChainView(c))
	}
	return v
}

// switchRole handles a request to follow another role.
func switchRole(do switcher) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if do == nil {
			http.Error(w, "this process is no replica: ask the admin port of one, `firstseen follow --admin`", http.StatusNotFound)
			return
		}
		done, err := do(r.Context(), r.FormValue("role"), r.FormValue("actor"))
		var refused replica.Refused
		switch {
		case errors.As(err, &refused):
			http.Error(w, refused.Error(), http.StatusConflict)
		case err != nil:
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
		case done == nil:
			fmt.Fprintln(w, "null")
		default:
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(switchViewOf(done)) // who asked is gone if this fails
		}
	}
}

func switchCommand(environ []string) *cobra.Command {
	var role string
	cmd := &cobra.Command{
		Use: "switch", Short: "Let a running replica follow another writer",
		Long: `Asks a replica, on its admin port, to follow the writer that ships under another role of its environment. The replica goes
on from its head if the other writer has the same blocks there, else from a block some 128 below it that both have; blocks
above that leave and come again as the other has them. If the two have no such block in common, or nothing is shipped under
the role, nothing changes and the error says why.

` + aboutAdminAccess + `

Change --role (follow.role) of the replica's own configuration too: the next start follows what that says.

With --output json it prints null if the replica follows that role already. The exit code is 1 if nothing was changed for
another reason.`,
		Example: `  FIRSTSEEN_ADMIN_TOKEN_FILE=/run/secrets/admin firstseen switch --role standby --admin 127.0.0.1:9102`,
	}
	check := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		asJSON, err := check()
		if err != nil {
			return err
		}
		if !schema.ValidName(role) {
			return usagef("--role %q: use the role of a writer, 1 to 64 of the characters A-Z a-z 0-9 . _ -", role)
		}
		c, err := adminTarget(cmd.Flags(), environ)
		if err != nil {
			return err
		}
		target := url.URL{Path: switchPath, RawQuery: url.Values{"role": {role}, "actor": {actor()}}.Encode()}
		answer, err := callAdminAt(cmd.Context(), c, http.MethodPost, target, 2*time.Minute)
		if err != nil {
			return err
		}
		var v *switchView
		if err := json.Unmarshal(answer, &v); err != nil {
			return fmt.Errorf("%s does not answer as a replica does: %w", c.Admin, err)
		}
		return printSwitch(cmd.OutOrStdout(), v, role, asJSON)
	}
	cmd.Flags().StringVar(&role, "role", "", "role of the writer to follow")
	cmd.Flags().String("admin", "", "host:port of the replica's admin port")
	bind(cmd.Flags(), "admin", "admin")
	return cmd
}

func printSwitch(out io.Writer, v *switchView, role string, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(out).Encode(v)
	}
	if v == nil {
		_, err := fmt.Fprintf(out, "the replica follows %s already\n", role)
		return err
	}
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "following\t%s, not %s; behind row %d\n", shown(v.To), shown(v.From), v.Resume)
	for _, c := range v.Chains {
		meet := "from its first block"
		if c.Meet != nil {
			meet = "from " + c.Meet.String()
		}
		fmt.Fprintf(t, "chain %d\t%s; %d blocks leave and come again\n", c.Chain, meet, c.Leaving)
	}
	return t.Flush()
}

// followRole changes the role that a replica's database follows before anything runs, if the configuration names another
// than it followed so far.
func (p *parts) followRole(ctx context.Context, s *store.Store, from replica.MoveObjects) error {
	w, err := replica.PlanSwitch(ctx, replica.SwitchOptions{
		Store: s, Objects: from, Names: p.config.names(p.config.Follow.Role), Actor: actor(),
	})
	if err == nil && w != nil {
		err = w.Do(ctx)
	}
	if err != nil || w == nil {
		return asUsage(err)
	}
	p.log.WithFields(map[string]any{"was": w.From, "role": w.To, "applied": w.Applied, "resume": w.Resume}).
		Warn("the replica follows another writer from now on")
	return nil
}

// switching is what the admin port asks to change the role of a follower that runs.
func (p *parts) switching(f *replica.Follower, s *store.Store, from replica.MoveObjects) switcher {
	return func(ctx context.Context, role, actor string) (*replica.Switch, error) {
		w, err := f.Switch(ctx, replica.SwitchOptions{
			Store: s, Objects: from, Names: p.config.names(role), Actor: actor,
		})
		if err == nil && w != nil {
			p.log.WithFields(map[string]any{"was": w.From, "role": w.To, "actor": actor, "resume": w.Resume}).
				Warn("the replica follows another writer from now on")
		}
		return w, err
	}
}
