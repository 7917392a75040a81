package gateway

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/firstseen/firstseen/internal/jsonrpc"
)

func TestIDsComeBackAsTheyWere(t *testing.T) {
	t.Parallel()
	node := newStub(t, func(question) string { return `"0x539"` })
	s := serve(t, Options{Pool: poolOf(node.URL)})
	for _, id := range []string{
		`1`, `0`, `-7`, `1.0`, `1e3`, `18446744073709551617`, `"1"`, `""`, `"a\u0062\""`, `"né"`, `null`,
	} {
		got := s.post(`{"jsonrpc":"2.0","id":` + id + `,"method":"eth_chainId"}`)
		if want := `{"jsonrpc":"2.0","id":` + id + `,"result":"0x539"}`; got.body != want || got.StatusCode != 200 {
			t.Errorf("id %s: %d %s", id, got.StatusCode, got.body)
		}
		if q := node.last(); string(q.ID) != ourID {
			t.Errorf("the node was shown the id %s", q.ID)
		}
	}
}

func TestNodeIsSentWhatWasDecoded(t *testing.T) {
	t.Parallel()
	node := newStub(t, func(question) string { return `null` })
	s := serve(t, Options{Pool: poolOf(node.URL)})
	for name, test := range map[string]struct{ request, method, params string }{
		"escaped name":    {`{"jsonrpc":"2.0","id":1,"method":"eth_\u0063all","params":[{"to":"0x1"},"0x1"]}`, "eth_call", `[{"to":"0x1"},"0x1"]`},
		"escaped member":  {`{"jsonrpc":"2.0","id":1,"m\u0065thod":"eth_chainId"}`, "eth_chainId", `[]`},
		"null parameters": {`{"jsonrpc":"2.0","id":1,"method":"eth_chainId","params":null}`, "eth_chainId", `[]`},
		"other members":   {`{"jsonrpc":"2.0","id":1,"method":"eth_chainId","auth":"x","result":1}`, "eth_chainId", `[]`},
		"white space":     {" \n{\"jsonrpc\" : \"2.0\",\"id\":1, \"method\":\"eth_chainId\" }\t ", "eth_chainId", `[]`},
	} {
		if got := s.post(test.request); got.StatusCode != 200 || !strings.Contains(got.body, `"result":null`) {
			t.Errorf("%s: %d %s", name, got.StatusCode, got.body)
		}
		if q := node.last(); q.Method != test.method || string(q.Params) != test.params {
			t.Errorf("%s: the node was sent %s %s", name, q.Method, q.Params)
		}
	}
}

func TestHostileRequestsAreRefusedBeforeANodeIsAsked(t *testing.T) {
	t.Parallel()
	node := newStub(t, func(question) string { return `null` })
	s := serve(t, Options{Pool: poolOf(node.URL), Allow: []string{"trace_block"}})
	one := func(method string) string { return `{"jsonrpc":"2.0","id":1,"method":"` + method + `","params":[]}` }
	for name, test := range map[string]struct {
		body string
		code int
	}{
		"nothing":               {``, jsonrpc.CodeParse},
		"cut":                   {`{"jsonrpc":"2.0","id":1,"method":"eth_cha`, jsonrpc.CodeParse},
		"two values":            {one("eth_chainId") + one("eth_chainId"), jsonrpc.CodeParse},
		"trailing comma":        {`{"jsonrpc":"2.0","id":1,"method":"eth_chainId",}`, jsonrpc.CodeParse},
		"single quotes":         {`{'jsonrpc':'2.0'}`, jsonrpc.CodeParse},
		"HTML":                  {`<html>`, jsonrpc.CodeParse},
		"invalid UTF-8":         {one("eth_chainId\xff"), jsonrpc.CodeParse},
		"lone surrogate":        {one(`eth_chainId\ud800`), jsonrpc.CodeParse},
		"NUL":                   {one("eth_chainId\x00"), jsonrpc.CodeParse},
		"byte order mark":       {"\ufeff" + one("eth_chainId"), jsonrpc.CodeParse},
		"batch of 101":          {"[" + strings.Repeat(one("eth_chainId")+",", 100) + one("eth_chainId") + "]", jsonrpc.CodeInvalid},
		"empty batch":           {`[]`, jsonrpc.CodeInvalid},
		"nested 10,000 deep":    {`{"jsonrpc":"2.0","id":1,"method":"eth_call","params":` + strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000) + `}`, jsonrpc.CodeInvalid},
		"objects 10,000 deep":   {strings.Repeat(`{"a":`, 10_000) + "1" + strings.Repeat("}", 10_000), jsonrpc.CodeInvalid},
		"only opened":           {strings.Repeat("[", 500_000), jsonrpc.CodeInvalid},
		"two methods":           {`{"jsonrpc":"2.0","id":1,"method":"eth_chainId","method":"admin_peers"}`, jsonrpc.CodeInvalid},
		"two methods, escaped":  {`{"jsonrpc":"2.0","id":1,"method":"eth_chainId","m\u0065thod":"admin_peers"}`, jsonrpc.CodeInvalid},
		"two ids":               {`{"jsonrpc":"2.0","id":1,"id":2,"method":"eth_chainId"}`, jsonrpc.CodeInvalid},
		"two members in params": {`{"jsonrpc":"2.0","id":1,"method":"eth_call","params":[{"to":"0x1","to":"0x2"}]}`, jsonrpc.CodeInvalid},
		"id of a megabyte":      {`{"jsonrpc":"2.0","id":"` + strings.Repeat("x", 1_000_000) + `","method":"eth_chainId"}`, jsonrpc.CodeInvalid},
		"number of a megabyte":  {`{"jsonrpc":"2.0","id":1` + strings.Repeat("0", 1_000_000) + `,"method":"eth_chainId"}`, jsonrpc.CodeInvalid},
		"object as id":          {`{"jsonrpc":"2.0","id":{},"method":"eth_chainId"}`, jsonrpc.CodeInvalid},
		"true as id":            {`{"jsonrpc":"2.0","id":true,"method":"eth_chainId"}`, jsonrpc.CodeInvalid},
		"no version":            {`{"id":1,"method":"eth_chainId"}`, jsonrpc.CodeInvalid},
		"version 1.0":           {`{"jsonrpc":"1.0","id":1,"method":"eth_chainId"}`, jsonrpc.CodeInvalid},
		"no method":             {`{"jsonrpc":"2.0","id":1}`, jsonrpc.CodeInvalid},
		"method is a number":    {`{"jsonrpc":"2.0","id":1,"method":1}`, jsonrpc.CodeInvalid},
		"a string":              {`"eth_chainId"`, jsonrpc.CodeInvalid},
		"parameters by name":    {`{"jsonrpc":"2.0","id":1,"method":"eth_call","params":{"to":"0x1"}}`, jsonrpc.CodeParams},
		"admin":                 {one("admin_peers"), jsonrpc.CodeNoMethod},
		"admin, escaped":        {one(`\u0061dmin_peers`), jsonrpc.CodeNoMethod},
		"debug":                 {one("debug_setHead"), jsonrpc.CodeNoMethod},
		"personal":              {one("personal_sign"), jsonrpc.CodeNoMethod},
		"engine":                {one("engine_newPayloadV3"), jsonrpc.CodeNoMethod},
		"miner":                 {one("miner_start"), jsonrpc.CodeNoMethod},
		"node's own accounts":   {one("eth_sendTransaction"), jsonrpc.CodeNoMethod},
		"filters":               {one("eth_newFilter"), jsonrpc.CodeNoMethod},
		"subscription":          {one("eth_subscribe"), jsonrpc.CodeNoMethod},
		"another case":          {one("ETH_CALL"), jsonrpc.CodeNoMethod},
		"space behind":          {one("eth_call "), jsonrpc.CodeNoMethod},
		"NUL behind":            {one(`eth_call\u0000`), jsonrpc.CodeNoMethod},
		"very long name":        {one(strings.Repeat("a", 100_000)), jsonrpc.CodeNoMethod},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := s.post(test.body)
			wantCode(t, got, http.StatusOK, test.code)
			if len(got.body) > 600 {
				t.Errorf("the answer has %d bytes", len(got.body))
			}
		})
	}
	t.Cleanup(func() {
		if n := node.calls.Load(); n != 0 {
			t.Errorf("a node was asked %d times, last for %s", n, node.last().Method)
		}
	})
}

func TestBatchIsAnsweredInOrderAndEachOnItsOwn(t *testing.T) {
	t.Parallel()
	node := newStub(t, func(q question) string { return `"` + q.Method + `"` })
	s := serve(t, Options{Pool: poolOf(node.URL)})
	got := s.post(`[{"jsonrpc":"2.0","id":1,"method":"eth_chainId"},
		{"jsonrpc":"2.0","method":"eth_gasPrice"},
		{"jsonrpc":"2.0","id":"2","method":"admin_peers"},
		{"jsonrpc":"2.0","method":"admin_peers"},
		5,
		{"jsonrpc":"2.0","id":1,"method":"net_version"},
		{"jsonrpc":"2.0","id":null,"method":"eth_blockNumber"}]`)
	var answers []struct {
		ID     json.RawMessage
		Result string
		Error  struct{ Code int }
	}
	if err := json.Unmarshal([]byte(got.body), &answers); err != nil {
		t.Fatalf("%s: %v", got.body, err)
	}
	var lines []string
	for _, a := range answers {
		lines = append(lines, fmt.Sprintf("%s %s %d", a.ID, a.Result, a.Error.Code))
	}
	want := []string{`1 eth_chainId 0`, `"2"  -32601`, `null  -32600`, `1 net_version 0`, `null 0x64 0`}
	if diff := cmp.Diff(want, lines); diff != "" || got.StatusCode != 200 {
		t.Errorf("%d\n%s", got.StatusCode, diff)
	}
	if n := node.calls.Load(); n != 3 {
		t.Errorf("the node was asked %d times; a notification is a request too", n)
	}
}

func TestBatchOf100IsAnswered(t *testing.T) {
	t.Parallel()
	node := newStub(t, func(question) string { return `"0x1"` })
	s := serve(t, Options{Pool: poolOf(node.URL)})
	var calls []string
	for i := range 100 {
		calls = append(calls, fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"eth_chainId"}`, i))
	}
	got := s.post("[" + strings.Join(calls, ",") + "]")
	var answers []struct{ ID int }
	if err := json.Unmarshal([]byte(got.body), &answers); err != nil || len(answers) != 100 {
		t.Fatalf("%d answers: %v", len(answers), err)
	}
	for i, a := range answers {
		if a.ID != i {
			t.Fatalf("answer %d has id %d", i, a.ID)
		}
	}
}

func TestNotificationsHaveNoAnswer(t *testing.T) {
	t.Parallel()
	node := newStub(t, func(question) string { return `"0x1"` })
	s := serve(t, Options{Pool: poolOf(node.URL)})
	for _, body := range []string{
		`{"jsonrpc":"2.0","method":"eth_chainId"}`, `{"jsonrpc":"2.0","method":"nonsense"}`,
		`[{"jsonrpc":"2.0","method":"eth_chainId"},{"jsonrpc":"2.0","method":"eth_chainId"}]`,
	} {
		if got := s.post(body); got.body != "" || got.StatusCode != http.StatusNoContent {
			t.Errorf("%s: %d %q", body, got.StatusCode, got.body)
		}
	}
	if n := node.calls.Load(); n != 3 {
		t.Errorf("the node was asked %d times", n)
	}
}

func TestLatestBecomesTheHead(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ method, params, want string }{
		{"eth_getBalance", `["0x1","latest"]`, `["0x1","0x64"]`},
		{"eth_getBalance", `["0x1" , "l\u0061test" ]`, `["0x1" , "0x64" ]`},
		{"eth_getBalance", `["0x1",{"blockNumber":"latest"}]`, `["0x1",{"blockNumber":"0x64"}]`},
		{"eth_getBalance", `["latest","pending"]`, ``},
		{"eth_getBalance", `["0x1",{"blockHash":"latest"}]`, ``},
		{"eth_getBalance", `["0x1"]`, ``},
		{"eth_getStorageAt", `["0x1","latest","latest"]`, `["0x1","latest","0x64"]`},
		{"eth_getBlockByNumber", `["latest",true]`, `["0x64",true]`},
		{"eth_getBlockByNumber", `["safe",true]`, ``},
		{"eth_call", `[{"data":"latest"}]`, `[{"data":"latest"},"0x64"]`},
		{"eth_call", `[{},null]`, `[{},"0x64"]`},
		{"eth_call", `[{},"latest",{"0x1":{"balance":"latest"}}]`, `[{},"0x64",{"0x1":{"balance":"latest"}}]`},
		{"eth_call", `[]`, ``},
		{"eth_getLogs", `[{"fromBlock":"0x1","toBlock":"latest","topics":["latest"]}]`, `[{"fromBlock":"0x1","toBlock":"0x64","topics":["latest"]}]`},
		{"eth_getLogs", `[{"fromBlock":"latest","toBlock":"latest"}]`, `[{"fromBlock":"0x64","toBlock":"0x64"}]`},
		{"eth_feeHistory", `["0x5","latest",[]]`, `["0x5","0x64",[]]`},
		{"eth_getTransactionReceipt", `["latest"]`, ``},
	} {
		allowed, err := methods(nil)
		if err != nil {
			t.Fatal(err)
		}
		c := &call{Call: &jsonrpc.Call{Method: test.method, Params: []byte(test.params)}, method: allowed[test.method]}
		pinned, want := c.pin(100), test.want
		if want == "" {
			want = test.params
		}
		if string(c.Params) != want || pinned != (test.want != "") {
			t.Errorf("%s %s: %v %s", test.method, test.params, pinned, c.Params)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		`{"jsonrpc":"2.0","id":1,"method":"eth_call","params":[{},"latest"]}`, `[{},5,[]]`, `[[`, `{"id":"\ud800"}`,
		`{"jsonrpc":"2.0","method":"m\u0065"}`,
	} {
		f.Add([]byte(seed))
	}
	allowed, err := methods(nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		req, problem := jsonrpc.Parse(text, 100)
		if problem != nil {
			return
		}
		for i := range req.Calls {
			c := &call{Call: &req.Calls[i]}
			if c.Bad != nil {
				continue
			}
			if c.method = allowed[c.Method]; c.method == nil {
				continue
			}
			c.pin(100)
			var q question
			if err := json.Unmarshal(c.Encode([]byte(ourID)), &q); err != nil || q.Method != c.Method {
				t.Errorf("%q became %q: %v", text, c.Encode([]byte(ourID)), err)
			}
		}
	})
}
