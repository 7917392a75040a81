package replica

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/firstseen/firstseen/schema"
)

// ask sends a request and returns what is answered.
func ask(ctx context.Context, method, url string, body []byte) (int, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	return resp.StatusCode, answer, err
}

// getJSON asks a stats API; a status other than 200 is an error.
func getJSON(ctx context.Context, url string, into any) error {
	code, body, err := ask(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	if code != http.StatusOK {
		return fmt.Errorf("GET %s: %d: %s", url, code, body)
	}
	return json.Unmarshal(body, into)
}

// listed is what the tests read of lists.
type listed struct {
	Data []json.RawMessage
	Next *string `json:"next_cursor"`
}

// named is what they read of what is on them.
type named struct {
	Hash schema.Hash
	Key  string
}

// names reads a list to its end.
func names(ctx context.Context, api, path string) (all []named, paths []string, err error) {
	var broken error
	paths, err = pages(ctx, api, path, func(l listed) {
		for _, d := range l.Data {
			var n named
			broken = errors.Join(broken, json.Unmarshal(d, &n))
			all = append(all, n)
		}
	})
	return all, paths, errors.Join(err, broken)
}

// block is what the tests read of a block.
type block struct {
	Hash         schema.Hash
	Number       uint64
	Transactions []struct {
		Hash     schema.Hash
		From     string
		Contract string
	}
}

// pages follows a list to its end and returns the paths of its pages.
func pages(ctx context.Context, api, path string, each func(listed)) (paths []string, err error) {
	for next := path; next != ""; {
		paths = append(paths, next)
		var l listed
		if err := getJSON(ctx, api+next, &l); err != nil {
			return nil, err
		}
		each(l)
		next = ""
		if l.Next != nil && len(l.Data) > 0 {
			next = path + "&cursor=" + url.QueryEscape(*l.Next)
		}
	}
	return paths, nil
}

const (
	blockList       = "/v1/blocks?limit=50"
	transactionList = "/transactions?limit=100" // of an account
)

// blocks reads all blocks that a stats API has.
func blocks(ctx context.Context, api string) (all []block, err error) {
	list, _, err := names(ctx, api, blockList)
	for _, n := range list {
		var b block
		err = errors.Join(err, getJSON(ctx, fmt.Sprintf("%s/v1/blocks/%s", api, n.Hash), &b))
		all = append(all, b)
	}
	return all, err
}

// paths is everything that a stats API answers about what it has: lists, page by page, and each thing that they list.
func paths(ctx context.Context, api string) ([]string, error) {
	all := []string{"/v1/stats", "/v1/observers", "/v1/blocks/latest", "/_cat/hashes", "/blocks?page=1&limit=20", "/v1/blocks?limit=7&page=2"}
	accounts := map[string]bool{}
	stored, err := blocks(ctx, api)
	for i, b := range stored {
		all = append(all, fmt.Sprintf("/v1/blocks/%s", b.Hash), fmt.Sprintf("/v1/blocks/%d", b.Number))
		if i%8 == 0 {
			all = append(all, fmt.Sprintf("/v1/blocks/%s/observations", b.Hash), fmt.Sprintf("/block/%s", b.Hash))
		}
		for _, tx := range b.Transactions {
			accounts[tx.From] = true
			if i%8 == 0 {
				all = append(all, fmt.Sprintf("/v1/transactions/%s", tx.Hash), fmt.Sprintf("/deploy/%s", tx.Hash))
			}
		}
	}
	for account := range accounts {
		all = append(all, "/v1/accounts/"+account, "/v1/accounts/"+account+transactionList, "/accountDeploys/"+account+"?page=1&limit=5")
	}
	for _, path := range []string{blockList, "/v1/feed?limit=100", "/v1/records?limit=100"} {
		list, more, err2 := names(ctx, api, path)
		for _, n := range list {
			if n.Key != "" {
				all = append(all, "/v1/records/"+n.Key, "/v1/records/"+n.Key+"/payload")
			}
		}
		all, err = append(all, more...), errors.Join(err, err2)
	}
	slices.Sort(all)
	return slices.Compact(all), err
}

// clocks are the fields that differ from one moment, and one process, to the next.
var clocks = []string{"rates", "connections", "records_per_second", "blocks_per_second", "transactions_per_second", "first_per_second"}

// still takes an answer's clocks out.
func still(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for _, name := range clocks {
			delete(v, name)
		}
		for _, inner := range v {
			still(inner)
		}
	case []any:
		for _, inner := range v {
			still(inner)
		}
	}
	return v
}

// answer is what an API says at a path: a status and a body that can be compared.
func answer(ctx context.Context, api, path string) (string, error) {
	if strings.HasSuffix(path, transactionList) {
		return wholeList(ctx, api, path)
	}
	code, body, err := ask(ctx, http.MethodGet, api+path, nil)
	if err != nil {
		return "", err
	}
	if path == "/v1/stats" || path == "/v1/observers" {
		var v map[string]any
		if err := json.Unmarshal(body, &v); err != nil {
			return "", fmt.Errorf("GET %s: %d: %s", path, code, body)
		}
		delete(v, "time")
		body, err = json.Marshal(still(v))
	}
	return fmt.Sprintf("%d %s", code, body), err
}

// wholeList is a list from its first page to its last. A place within the transactions of an account has another name at
// replicas than at the writer, so pages are compared by what is on them.
func wholeList(ctx context.Context, api, path string) (string, error) {
	var all []byte
	_, err := pages(ctx, api, path, func(l listed) {
		for _, d := range l.Data {
			all = append(append(all, d...), '\n')
		}
	})
	return string(all), err
}

// sameAnswers compares everything that two stats APIs say, and returns the first difference.
func sameAnswers(ctx context.Context, writer, replica string) error {
	all, err := paths(ctx, writer)
	if err != nil {
		return err
	}
	for _, path := range all {
		want, err := answer(ctx, writer, path)
		if err != nil {
			return err
		}
		got, err := answer(ctx, replica, path)
		if err != nil {
			return err
		}
		if got != want {
			return fmt.Errorf("%s:\nwriter  %s\nreplica %s", path, want, got)
		}
	}
	return nil
}

// call is one JSON-RPC request.
type call struct {
	Version string `json:"jsonrpc"`
	ID      int    `json:"id"`
	Method  string `json:"method"`
	Params  []any  `json:"params"`

	forgotten bool // nodes may have dropped what is asked for: null, where we still have it
}

// calls is everything that a read-only node answers about a chain: each of its blocks, canonical or not, and what is in
// the canonical ones.
func calls(chain, siblings []schema.Hash, transactions []schema.Hash, counter string) (all []call) {
	add := func(method string, params ...any) {
		if params == nil {
			params = []any{}
		}
		all = append(all, call{Version: "2.0", ID: len(all), Method: method, Params: params})
	}
	add("eth_chainId")
	add("net_version")
	add("eth_blockNumber")
	add("eth_syncing")
	head := fmt.Sprintf("%#x", len(chain)-1)
	for _, tag := range []string{"latest", "safe", "finalized", "earliest", head, fmt.Sprintf("%#x", len(chain)+1000)} {
		add("eth_getBlockByNumber", tag, true)
		add("eth_getBlockByNumber", tag, false)
		add("eth_getBlockReceipts", tag)
	}
	for number, hash := range chain {
		add("eth_getBlockByNumber", fmt.Sprintf("%#x", number), number%2 == 0)
		add("eth_getBlockReceipts", fmt.Sprintf("%#x", number))
		add("eth_getBlockByHash", hash, number%2 == 1)
		add("eth_getLogs", map[string]any{"blockHash": hash})
	}
	for _, hash := range siblings {
		add("eth_getBlockByHash", hash, true)
		all[len(all)-1].forgotten = true // once it is finalized that another block has its height
	}
	for _, hash := range transactions {
		add("eth_getTransactionByHash", hash)
		add("eth_getTransactionReceipt", hash)
	}
	add("eth_getTransactionByHash", schema.Hash{1})
	add("eth_getTransactionReceipt", schema.Hash{1})
	add("eth_getBlockByHash", schema.Hash{1}, true)
	add("eth_getLogs", map[string]any{"fromBlock": "0x0", "toBlock": head})
	add("eth_getLogs", map[string]any{"fromBlock": "0x2", "toBlock": "latest", "address": counter})
	add("eth_getLogs", map[string]any{"fromBlock": "0x0", "toBlock": head, "topics": []any{nil}})
	add("eth_getLogs", map[string]any{"fromBlock": "0x0", "toBlock": head, "topics": []any{schema.Hash{31: 1}}})
	add("eth_getLogs", map[string]any{"fromBlock": "0x0", "toBlock": head, "topics": []any{schema.Hash{31: 2}}})
	return all
}

// rpc sends calls, a hundred at a time, and returns what each was answered: a result, or an error.
func rpc(ctx context.Context, node string, all []call) ([]any, error) {
	out := make([]any, len(all))
	for batch := range slices.Chunk(all, 50) {
		body, err := json.Marshal(batch)
		if err != nil {
			return nil, err
		}
		code, text, err := ask(ctx, http.MethodPost, node, body)
		if err != nil {
			return nil, err
		}
		var answers []struct {
			ID     int
			Result any
			Error  any
		}
		if err := json.Unmarshal(text, &answers); err != nil || len(answers) != len(batch) {
			return nil, fmt.Errorf("%s: %d: %.300s", node, code, text)
		}
		for _, a := range answers {
			if out[a.ID] = a.Result; a.Error != nil {
				out[a.ID] = map[string]any{"error": a.Error}
			}
		}
	}
	return out, nil
}

// sameCalls compares what nodes answer, field by field, with the first of them, and returns the first difference.
func sameCalls(ctx context.Context, all []call, nodes ...string) error {
	want, err := rpc(ctx, nodes[0], all)
	if err != nil {
		return err
	}
	for _, node := range nodes[1:] {
		got, err := rpc(ctx, node, all)
		if err != nil {
			return err
		}
		for i := range all {
			if all[i].forgotten && want[i] == nil {
				want[i] = got[i] // the next ones are compared with this
			}
			if diff := differs("", want[i], got[i]); diff != "" {
				return fmt.Errorf("%s %v of %s: %s", all[i].Method, all[i].Params, node, diff)
			}
		}
	}
	return nil
}

// differs names the first field in which two answers are not the same.
func differs(path string, want, got any) string {
	if reflect.DeepEqual(want, got) {
		return ""
	}
	w, ok := want.(map[string]any)
	g, also := got.(map[string]any)
	if ok && also {
		for _, name := range slices.Sorted(maps.Keys(w)) {
			if d := differs(path+"."+name, w[name], g[name]); d != "" {
				return d
			}
		}
	}
	a, ok := want.([]any)
	b, also := got.([]any)
	if ok && also && len(a) == len(b) {
		for i := range a {
			if d := differs(fmt.Sprintf("%s[%d]", path, i), a[i], b[i]); d != "" {
				return d
			}
		}
	}
	return fmt.Sprintf("%s is %.400v, want %.400v", path, got, want)
}

// Two answers that differ anywhere are told apart.
func TestDifferencesAreFound(t *testing.T) {
	t.Parallel()
	same := func() map[string]any {
		return map[string]any{"a": []any{map[string]any{"b": "1"}, nil}, "c": "x"}
	}
	for name, change := range map[string]func(map[string]any){
		"":        func(map[string]any) {},
		".a[0].b": func(m map[string]any) { m["a"].([]any)[0].(map[string]any)["b"] = "2" },
		".a[1]":   func(m map[string]any) { m["a"].([]any)[1] = "2" },
		".a":      func(m map[string]any) { m["a"] = []any{} },
		".c":      func(m map[string]any) { delete(m, "c") },
	} {
		got := same()
		change(got)
		diff := differs("", same(), got)
		if (diff == "") != (name == "") || !bytes.HasPrefix([]byte(diff), []byte(name)) {
			t.Errorf("%q: %q", name, diff)
		}
	}
	more := same()
	more["d"] = true
	if differs("", same(), more) == "" {
		t.Error("a field too many goes unnoticed")
	}
}
