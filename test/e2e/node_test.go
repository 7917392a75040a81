package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/rpc"

	"github.com/firstseen/firstseen/schema"
)

// numberOf asks a node for the number of a block by tag.
func numberOf(t *testing.T, url, tag string) uint64 {
	t.Helper()
	node, err := rpc.DialContext(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer node.Close()
	var block struct{ Number hexutil.Uint64 }
	if err := node.CallContext(t.Context(), &block, "eth_getBlockByNumber", tag, false); err != nil {
		t.Fatal(err)
	}
	return uint64(block.Number)
}

type request struct {
	ID     json.RawMessage `json:"id"`
	Method string          `json:"method"`
	Params []any           `json:"params"`
}

type response struct {
	Version string          `json:"jsonrpc"`
	ID      json.RawMessage `json:"id"`
	Result  json.RawMessage `json:"result,omitempty"`
	Error   any             `json:"error,omitempty"`
}

// mainnetNode answers as a node of Ethereum's main network whose head is the given block, and which knows no other.
func mainnetNode(t *testing.T, block json.RawMessage) string {
	t.Helper()
	answer := func(r request) response {
		out := response{Version: "2.0", ID: r.ID}
		switch r.Method {
		case "eth_chainId":
			out.Result = json.RawMessage(`"0x1"`)
		case "eth_getBlockByNumber", "eth_getBlockByHash":
			out.Result = block
			if r.Params[0] == "safe" || r.Params[0] == "finalized" {
				out.Result = json.RawMessage("null")
			}
		default:
			out.Error = map[string]any{"code": -32601, "message": "the method " + r.Method + " does not exist"}
		}
		return out
	}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var body bytes.Buffer
		if _, err := body.ReadFrom(r.Body); err != nil {
			return
		}
		w.Header().Set("Content-Type", "application/json")
		var batch []request
		if json.Unmarshal(body.Bytes(), &batch) == nil {
			out := make([]response, len(batch))
			for i, one := range batch {
				out[i] = answer(one)
			}
			_ = json.NewEncoder(w).Encode(out)
			return
		}
		var one request
		_ = json.Unmarshal(body.Bytes(), &one)
		_ = json.NewEncoder(w).Encode(answer(one))
	}))
	t.Cleanup(srv.Close)
	return srv.URL
}

// mainnetBlock reads a real block as a node answered it.
func mainnetBlock(t *testing.T, number uint64) (block json.RawMessage, hash schema.Hash) {
	t.Helper()
	path := filepath.Join("..", "..", "..", "shared", "data", "mainnet", fmt.Sprintf("block-%d.json", number))
	text, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		t.Skip("needs real mainnet blocks in shared/data/mainnet beside the repository")
	}
	if err != nil {
		t.Fatal(err)
	}
	var batch []struct{ Result json.RawMessage }
	var named struct{ Hash schema.Hash }
	if err := json.Unmarshal(text, &batch); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(batch[0].Result, &named); err != nil {
		t.Fatal(err)
	}
	return batch[0].Result, named.Hash
}

// Real blocks of 2016 and 2023 go through the whole of `firstseen up`, by each embedded template.
func TestMainnetBlocksGoThroughTheWholePath(t *testing.T) {
	t.Parallel()
	for number, transactions := range map[uint64]int{1000001: 1, 18000000: 94} {
		for template, contentType := range map[string]string{"block.html": "text/html", "block.json": "application/json", "block.txt": "text/plain"} {
			t.Run(fmt.Sprintf("%d by %s", number, template), func(t *testing.T) {
				t.Parallel()
				raw, hash := mainnetBlock(t, number)
				up := start(t, "up", "--db", "memory", "--node", mainnetNode(t, raw), "--template", template,
					"--listen", "127.0.0.1:0", "--stats-listen", "127.0.0.1:0")
				api := "http://" + up.Addr(t, "stats")
				var block struct {
					Hash         schema.Hash
					Number       uint64
					Status       schema.Status
					ContentType  string `json:"content_type"`
					Transactions int    `json:"transaction_count"`
				}
				eventually(t, 20*time.Second, func() error {
					return getJSON(t.Context(), api+"/v1/blocks/latest", &block)
				})
				if block.Hash != hash || block.Number != number || block.Status != schema.StatusCanonical ||
					!strings.HasPrefix(block.ContentType, contentType) || block.Transactions != transactions {
					t.Errorf("stored as %+v", block)
				}
				if payload := get(t, api+"/v1/records/"+string(hash.Key())+"/payload"); !strings.Contains(payload, hash.String()) {
					t.Errorf("payload does not name the block: %s", payload)
				}
				if err := up.Stop(t); err != nil {
					t.Errorf("SIGTERM: %v", err)
				}
			})
		}
	}
}

// A node that changes a field of a block is not believed: nothing is stored.
func TestAForgedBlockIsNotStored(t *testing.T) {
	t.Parallel()
	raw, _ := mainnetBlock(t, 1000001)
	forged := bytes.Replace(raw, []byte(`"gasUsed":"0x`), []byte(`"gasUsed":"0x1`), 1)
	if bytes.Equal(forged, raw) {
		t.Fatal("nothing was forged")
	}
	up := start(t, "up", "--db", "memory", "--node", mainnetNode(t, forged), "--poll", "50ms",
		"--listen", "127.0.0.1:0", "--stats-listen", "127.0.0.1:0")
	api := "http://" + up.Addr(t, "stats")
	eventually(t, 20*time.Second, func() error {
		if !strings.Contains(up.Log.String(), "hash") {
			return fmt.Errorf("the log does not speak of the hash")
		}
		return nil
	})
	var block json.RawMessage
	if err := getJSON(t.Context(), api+"/v1/blocks/latest", &block); err == nil {
		t.Errorf("stored %s", block)
	}
}
