package invariants

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/big"
	"net/http"
	"strings"
	"time"

	"github.com/firstseen/firstseen/schema"
)

// Template is the embedded template that a Chronicle can render by itself: observers of a run must use it.
const Template = "block.txt"

// Chronicle is the chain as a node tells it. It must be asked after each step of the chain, since a node may forget
// blocks that were replaced.
type Chronicle struct {
	url    string
	chain  uint64
	bodies map[schema.Key][]byte
}

// NewChronicle returns a Chronicle of the node that answers at url.
func NewChronicle(url string) *Chronicle {
	return &Chronicle{url: url, bodies: map[schema.Key][]byte{}}
}

// See asks the node for those of the blocks that were not asked for yet. They are blocks that some node showed.
func (c *Chronicle) See(ctx context.Context, hashes []schema.Hash) error {
	for _, hash := range hashes {
		if _, err := c.look(ctx, c.url, hash.String()); err != nil {
			return err
		}
	}
	return nil
}

// Follow asks another node for its head and all blocks below that were not asked for yet.
func (c *Chronicle) Follow(ctx context.Context, url string) error {
	var head rawBlock
	if err := call(ctx, url, &head, "eth_getBlockByNumber", "latest", false); err != nil {
		return err
	}
	for hash := head.Hash; ; {
		b, err := c.look(ctx, url, hash)
		if err != nil || b == nil {
			return err
		}
		hash = b.ParentHash
	}
}

// look asks a node for a block, unless it is known: then the answer is nil.
func (c *Chronicle) look(ctx context.Context, url, hash string) (*rawBlock, error) {
	if c.chain == 0 {
		var id quantity
		if err := call(ctx, url, &id, "eth_chainId"); err != nil {
			return nil, err
		}
		c.chain = id.n.Uint64()
	}
	key := schema.Key(strings.TrimPrefix(hash, "0x"))
	if c.bodies[key] != nil {
		return nil, nil
	}
	var b rawBlock
	if err := call(ctx, url, &b, "eth_getBlockByHash", hash, true); err != nil {
		return nil, err
	}
	if b.Hash != hash {
		return nil, fmt.Errorf("node answers block %q for %s", b.Hash, hash)
	}
	c.bodies[key] = b.render(c.chain)
	return &b, nil
}

// Truth is what Check takes for true of the chain. Branch lists the hashes of the chain by number from 0, First is the
// lowest height that had to be delivered, Safe and Finalized are the numbers that the nodes tell.
func (c *Chronicle) Truth(branch []schema.Hash, first, safe, finalized uint64) Truth {
	return Truth{Chain: c.chain, First: first, Branch: branch, Bodies: c.bodies, Safe: safe, Finalized: finalized}
}

// call makes one call of JSON-RPC 2.0 over HTTP.
func call(ctx context.Context, url string, into any, method string, params ...any) error {
	if params == nil {
		params = []any{}
	}
	body, err := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
	if err != nil {
		return fmt.Errorf("%s: %w", method, err)
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("%s: %w", method, err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("%s: %w", method, err)
	}
	defer resp.Body.Close()
	answer := struct {
		Result any
		Error  json.RawMessage
	}{Result: into}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil || answer.Error != nil {
		return fmt.Errorf("%s: %s %w", method, answer.Error, err)
	}
	return nil
}

// quantity is a number as JSON-RPC writes it.
type quantity struct{ n big.Int }

func (q *quantity) String() string { return q.n.String() }

// UnmarshalText implements encoding.TextUnmarshaler.
func (q *quantity) UnmarshalText(text []byte) error {
	if _, ok := q.n.SetString(strings.TrimPrefix(string(text), "0x"), 16); !ok {
		return fmt.Errorf("%q is no quantity", text)
	}
	return nil
}

// rawBlock is a block in the words of JSON-RPC.
type rawBlock struct {
	Number, Timestamp, GasUsed, GasLimit quantity
	BaseFeePerGas                        *quantity
	Hash, ParentHash, Miner              string
	StateRoot, ExtraData                 string
	Transactions                         []rawTransaction
}

type rawTransaction struct {
	Hash, From string
	To         *string
	Value      quantity
}

// UnmarshalJSON takes a hash alone, too, which is how a block lists its transactions to those who do not want them.
func (tx *rawTransaction) UnmarshalJSON(text []byte) error {
	if bytes.HasPrefix(text, []byte(`"`)) {
		return json.Unmarshal(text, &tx.Hash)
	}
	type plain rawTransaction
	return json.Unmarshal(text, (*plain)(tx))
}

// render writes the block as the template of that name must, from the template's description.
func (b *rawBlock) render(chain uint64) []byte {
	fee := "-"
	if b.BaseFeePerGas != nil {
		fee = b.BaseFeePerGas.String()
	}
	var out bytes.Buffer
	for _, line := range [][2]any{
		{"block", b.Number.String()}, {"chain", chain}, {"hash", b.Hash}, {"parent", b.ParentHash},
		{"time", time.Unix(b.Timestamp.n.Int64(), 0).UTC().Format(time.RFC3339)}, {"timestamp", b.Timestamp.String()},
		{"fee_recipient", strings.ToLower(b.Miner)}, {"gas_used", b.GasUsed.String()}, {"gas_limit", b.GasLimit.String()},
		{"base_fee", fee}, {"state_root", b.StateRoot}, {"extra_data", b.ExtraData}, {"extra_text", visible(b.ExtraData)},
		{"transactions", len(b.Transactions)},
	} {
		fmt.Fprintf(&out, "%v %v\n", line[0], line[1])
	}
	for _, tx := range b.Transactions {
		to := "-"
		if tx.To != nil {
			to = strings.ToLower(*tx.To)
		}
		fmt.Fprintf(&out, "%s %s %s %s\n", tx.Hash, strings.ToLower(tx.From), to, tx.Value.String())
	}
	return bytes.TrimSuffix(out.Bytes(), []byte("\n")) // the template ends without one
}

// visible is what can be read of hex.
func visible(digits string) string {
	data, err := hex.DecodeString(strings.TrimPrefix(digits, "0x"))
	if err != nil || len(data) == 0 {
		return "-"
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '.'
		}
		return r
	}, string(data))
}
