package client

import (
	"encoding/json"
	"net/http"
	"testing"
)

func TestReceiptsAreFoundOrSaidToBeUnknown(t *testing.T) {
	t.Parallel()
	whole, single := "eth_getBlockReceipts", "eth_getTransactionReceipt"
	none := rpcError("-32601", "the method does not exist")
	both := func(w http.ResponseWriter, method string) bool {
		return (method == whole || method == single) && none(w, method)
	}
	for name, tc := range map[string]struct {
		fault   fault
		mode    ReceiptsMode
		unknown string
		singles int
	}{
		"in one call":           {nil, "", "", 0},
		"one by one":            {on(whole, none), "", "", 3},
		"null, then one by one": {on(whole, says(200, `{"jsonrpc":"2.0","id":1,"result":null}`)), "", "", 3},
		"neither":               {both, "", receiptsFailed, -1},
		"of another block": {on(whole, says(200, `{"jsonrpc":"2.0","id":1,"result":[{},{},{}]}`)), "",
			receiptsMismatch, 0},
		"connection broken": {on(whole, says(500, "")), "", receiptsFailed, 0},
		"none of them yet": {func(w http.ResponseWriter, method string) bool {
			return (method == whole || method == single) && says(200, `{"jsonrpc":"2.0","id":1,"result":null}`)(w, method)
		}, "", receiptsMissing, -1},
		"off": {nil, ReceiptsOff, receiptsOff, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := draw(t).line("a", 0, 4, "").transact("a4", 3)
			s := serveRelay(t, d)
			n := serveDrawing(t, d)
			n.misbehave(tc.fault)
			c := start(t, []string{n.URL}, []string{s.addr()}, func(o *Options) { o.Receipts = tc.mode })
			c.at(d, "a4")
			for _, tx := range s.metas["a4"].Transactions {
				if known := tx.GasUsed != nil && tx.Status != nil; known != (tc.unknown == "") {
					t.Errorf("transaction %+v", tx)
				}
			}
			if got := c.Stats().NoReceipts; tc.unknown == "" && len(got) != 0 || tc.unknown != "" && got[tc.unknown] != 1 {
				t.Errorf("counted %v, want %q", got, tc.unknown)
			}
			if got := n.called(single); tc.singles >= 0 && got != tc.singles {
				t.Errorf("%d single calls, want %d", got, tc.singles)
			}
		})
	}
}

func TestReceiptsAskAgainInTheOtherForm(t *testing.T) {
	t.Parallel()
	d := draw(t).line("a", 0, 4, "").transact("a4", 2)
	n := serveDrawing(t, d)
	n.misbehave(on("eth_getBlockReceipts", func(w http.ResponseWriter, _ string) bool {
		if n.called("eth_getBlockReceipts") == 1 {
			return rpcError("-32602", "invalid params")(w, "")
		}
		list, _ := json.Marshal(d.receipts("a4"))
		return says(200, `{"jsonrpc":"2.0","id":1,"result":`+string(list)+`}`)(w, "")
	}))
	a := testNode(t, n.URL, 0)
	b, err := blockByHash(t.Context(), a, 7, d.hash("a4"))
	if err != nil {
		t.Fatal(err)
	}
	if why, err := fillReceipts(t.Context(), a, b, ReceiptsAuto); why != "" || err != nil {
		t.Error(why, err)
	}
}
