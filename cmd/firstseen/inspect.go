package main

import (
	"context"
	"fmt"
	"net/url"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/firstseen/firstseen/statsapi"
)

// Commands that show what the stats API knows. Each is one request, or one list.

// stamp is a moment as tables show it.
func stampOf(t statsapi.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

func number(n statsapi.Number) string { return strconv.FormatUint(uint64(n), 10) }

func rowsFlag(cmd *cobra.Command, rows *int, what string) {
	cmd.Flags().IntVar(rows, "limit", 20, "most "+what+" to show")
}

func checkRows(rows int) error {
	if rows < 1 || rows > 100_000 {
		return usagef("--limit %d: use 1 to 100000", rows)
	}
	return nil
}

func blocksCommand(environ []string) *cobra.Command {
	var rows int
	var cmd *cobra.Command
	cmd = apiCommand(environ, "blocks", "List blocks, the highest first", `Lists blocks with their status, who saw them first, and when.`,
		func(ctx context.Context, c *apiClient, _ []string) error {
			if err := checkRows(rows); err != nil {
				return err
			}
			values := parameters(cmd.Flags(), "chain", "status", "min-number", "max-number", "since", "until", "observer", "node", "server")
			blocks, err := list[statsapi.Block](ctx, c, rows, values, "v1", "blocks")
			if err != nil {
				return err
			}
			if c.output == "json" {
				return c.json(map[string]any{"data": blocks})
			}
			return c.table("CHAIN NUMBER HASH STATUS TXS OBSERVER NODE RECEIVED", func(t *table) {
				for _, b := range blocks {
					t.line(number(b.Chain), number(b.Number), b.Hash, b.Status, number(b.TransactionCount), b.Observer, b.Node,
						stampOf(b.ReceivedAt))
				}
			})
		})
	cmd.Example = `  firstseen blocks --status orphaned --limit 50
  firstseen blocks --chain 1 --min-number 19000000 --observer paris-1 --output json`
	rowsFlag(cmd, &rows, "blocks")
	for _, f := range []struct{ name, usage string }{
		{"chain", "only of this chain id"}, {"status", "only in this status; several with commas"},
		{"min-number", "only of this height or above"}, {"max-number", "only of this height or below"},
		{"since", "only received at or after this moment, as 2026-01-02T15:04:05Z"}, {"until", "only received before this moment"},
		{"observer", "only what this observer saw first"}, {"node", "only what was seen first through this node"},
		{"server", "only what this server received first"},
	} {
		cmd.Flags().String(f.name, "", f.usage)
	}
	return cmd
}

func chainFlag(cmd *cobra.Command) {
	cmd.Flags().String("chain", "", "chain id; needed if the answer may be on several")
}

func blockCommand(environ []string) *cobra.Command {
	var cmd *cobra.Command
	cmd = apiCommand(environ, "block ID", "Show one block", `Shows a block by hash, height, or one of the words latest, safe and finalized: where it stands,
who saw it when, its siblings and its transactions.`,
		func(ctx context.Context, c *apiClient, args []string) error {
			var b statsapi.BlockDetail
			if err := c.get(ctx, &b, parameters(cmd.Flags(), "chain"), "v1", "blocks", url.PathEscape(args[0])); err != nil {
				return err
			}
			if c.output == "json" {
				return c.json(b)
			}
			return printBlock(c, b)
		})
	cmd.Example = `  firstseen block latest
  firstseen block 19000000 --chain 1`
	chainFlag(cmd)
	return cmd
}

func printBlock(c *apiClient, b statsapi.BlockDetail) error {
	err := c.table("", func(t *table) {
		t.line("hash", b.Hash)
		t.line("parent", b.Parent)
		t.line("number", number(b.Number))
		t.line("chain", number(b.Chain))
		t.line("status", b.Status)
		t.line("time", stampOf(b.Time))
		for _, hash := range b.Siblings {
			t.line("sibling", hash)
		}
	})
	if err != nil {
		return err
	}
	fmt.Fprintln(c.out)
	err = c.table("OBSERVER NODE SERVER ORIGIN RECEIVED BEHIND", func(t *table) {
		for _, o := range b.Observations {
			t.line(o.Observer, o.Node, o.Server, o.Origin, stampOf(o.ReceivedAt), seconds(o.DelaySeconds).Round(time.Millisecond).String())
		}
	})
	if err != nil || len(b.Transactions) == 0 {
		return err
	}
	fmt.Fprintln(c.out)
	return c.table("TRANSACTION FROM TO WEI GAS STATUS", func(t *table) {
		for _, tx := range b.Transactions {
			t.line(tx.Hash, tx.From, dashed(tx.To), tx.Value, dashed(tx.GasUsed), outcome(tx))
		}
	})
}

// outcome is how a transaction ended, in a word.
func outcome(tx statsapi.Transaction) string {
	switch {
	case tx.Status == nil:
		return "-"
	case *tx.Status == 0:
		return "failed"
	}
	return "ok"
}

func txCommand(environ []string) *cobra.Command {
	var cmd *cobra.Command
	cmd = apiCommand(environ, "tx HASH", "Show one transaction", `Shows a transaction and the blocks that hold it.`,
		func(ctx context.Context, c *apiClient, args []string) error {
			var tx statsapi.TransactionDetail
			if err := c.get(ctx, &tx, parameters(cmd.Flags(), "chain"), "v1", "transactions", url.PathEscape(args[0])); err != nil {
				return err
			}
			if c.output == "json" {
				return c.json(tx)
			}
			return c.table("", func(t *table) {
				t.line("hash", tx.Hash)
				t.line("from", tx.From)
				t.line("to", dashed(tx.To))
				t.line("wei", tx.Value)
				t.line("gas used", dashed(tx.GasUsed))
				t.line("status", outcome(tx.Transaction))
				t.line("contract", dashed(tx.Contract))
				for _, b := range append([]statsapi.BlockRef{tx.Block}, tx.Others...) {
					t.line("block", fmt.Sprintf("%s %s %s on chain %s", number(b.Number), b.Hash, b.Status, number(b.Chain)))
				}
			})
		})
	chainFlag(cmd)
	return cmd
}

func accountCommand(environ []string) *cobra.Command {
	var rows int
	var cmd *cobra.Command
	cmd = apiCommand(environ, "account ADDRESS", "Show an account and its transactions",
		`Shows what the stored transactions tell of an account, and the newest of them. Balances are not known here.`,
		func(ctx context.Context, c *apiClient, args []string) error {
			if err := checkRows(rows); err != nil {
				return err
			}
			id := url.PathEscape(args[0])
			var account statsapi.Account
			if err := c.get(ctx, &account, parameters(cmd.Flags(), "chain"), "v1", "accounts", id); err != nil {
				return err
			}
			txs, err := list[statsapi.PlacedTransaction](ctx, c, rows, parameters(cmd.Flags(), "chain"), "v1", "accounts", id, "transactions")
			if err != nil {
				return err
			}
			if c.output == "json" {
				return c.json(map[string]any{"account": account, "transactions": txs})
			}
			return printAccount(c, account, txs)
		})
	rowsFlag(cmd, &rows, "transactions")
	cmd.Flags().String("chain", "", "only on this chain id")
	return cmd
}

func printAccount(c *apiClient, account statsapi.Account, txs []statsapi.PlacedTransaction) error {
	err := c.table("CHAIN SENT RECEIVED FIRST LAST CREATED", func(t *table) {
		for _, on := range account.Chains {
			created := "-"
			if on.CreatedBy != nil {
				created = on.CreatedBy.Hash
			}
			t.line(number(on.Chain), number(on.Sent), number(on.Received), number(on.FirstNumber), number(on.LastNumber), created)
		}
	})
	if err != nil {
		return err
	}
	fmt.Fprintln(c.out)
	return c.table("CHAIN BLOCK TRANSACTION FROM TO WEI STATUS", func(t *table) {
		for _, tx := range txs {
			t.line(number(tx.Block.Chain), number(tx.Block.Number), tx.Hash, tx.From, dashed(tx.To), tx.Value,
				outcome(tx.Transaction)+" "+tx.Block.Status)
		}
	})
}

func connectionsCommand(environ []string) *cobra.Command {
	var strong bool
	var cmd *cobra.Command
	cmd = apiCommand(environ, "connections", "Show how many connections the servers hold",
		`Shows the open connections of every server, as they said last or, with --strong, as each answers now. The exit code is
3 while the total is not known.`,
		func(ctx context.Context, c *apiClient, _ []string) error {
			values := parameters(cmd.Flags(), "by")
			if strong {
				values.Set("consistency", "strong")
			}
			values.Set("limit", strconv.Itoa(listPart))
			var got statsapi.Connections
			if err := c.get(ctx, &got, values, "v1", "connections"); err != nil {
				return err
			}
			var err error
			if c.output == "json" {
				err = c.json(got)
			} else {
				err = printConnections(c, got)
			}
			if err != nil {
				return err
			}
			if !got.Known {
				return unreadyError{"the number of connections is not known: " + shown(got.Reason)}
			}
			return nil
		})
	cmd.Flags().BoolVar(&strong, "strong", false, "ask each server, and name those that do not answer")
	cmd.Flags().String("by", "", "group by server, ip or observer; the latter two ask each server")
	return cmd
}

func printConnections(c *apiClient, got statsapi.Connections) error {
	if got.By != "" {
		return c.table("NAME CONNECTIONS", func(t *table) {
			for _, g := range got.Groups {
				t.line(g.Name, strconv.Itoa(g.Count))
			}
			if got.Others > 0 {
				t.line("(others)", strconv.Itoa(got.Others))
			}
		})
	}
	return c.table("SERVER CONNECTIONS AGE ADDRESS", func(t *table) {
		for _, s := range got.Servers {
			t.line(s.Server, strconv.Itoa(s.Count), seconds(s.AgeSeconds).Round(100*time.Millisecond).String(), s.Address)
		}
		for _, m := range got.Missing {
			t.line(m.Server, "-", "-", m.Reason)
		}
		total := "unknown"
		if got.Total != nil {
			total = strconv.Itoa(*got.Total)
		}
		t.line("(total)", total, "", "")
	})
}

func observersCommand(environ []string) *cobra.Command {
	var cmd *cobra.Command
	cmd = apiCommand(environ, "observers", "Show who was first how often", `Compares observers over the newest blocks: how many each saw as heads, with how many it was first,
and how far behind the first it was.`,
		func(ctx context.Context, c *apiClient, _ []string) error {
			var got statsapi.Observers
			if err := c.get(ctx, &got, parameters(cmd.Flags(), "chain", "blocks"), "v1", "observers"); err != nil {
				return err
			}
			if c.output == "json" {
				return c.json(got)
			}
			return c.table("OBSERVER NODE SEEN FIRST P50 P99 FIRST-EVER BACKFILLED", func(t *table) {
				for _, o := range got.Data {
					t.line(o.Observer, "", number(o.Seen), number(o.First), millis(o.DelayP50), millis(o.DelayP99), number(o.Total),
						number(o.Backfilled))
					for _, n := range o.Nodes {
						t.line("", n.Node, number(n.Seen), number(n.First), millis(n.DelayP50), millis(n.DelayP99), "", "")
					}
				}
			})
		})
	cmd.Flags().String("chain", "", "compare blocks of this chain id only")
	cmd.Flags().String("blocks", "", "how many of the newest blocks to compare (default 1000)")
	return cmd
}
