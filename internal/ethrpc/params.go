package ethrpc

import (
	"encoding/json"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/rpc"

	"github.com/firstseen/firstseen/internal/jsonrpc"
	"github.com/firstseen/firstseen/schema"
)

// split takes the parameters of a call apart: at least so many, and at most. Null stands for one that is not given, as
// everywhere in the execution API.
func split(raw []byte, least, most int) ([][]byte, error) {
	var params [][]byte
	if raw != nil {
		var err error
		if params, err = elements(raw); err != nil {
			return nil, jsonrpc.Errorf(jsonrpc.CodeParams, "params must be an array")
		}
	}
	if len(params) > most {
		return nil, jsonrpc.Errorf(jsonrpc.CodeParams, "too many arguments, want at most %d", most)
	}
	for i := range least {
		if i >= len(params) || string(params[i]) == "null" {
			return nil, jsonrpc.Errorf(jsonrpc.CodeParams, "missing value for required argument %d", i)
		}
	}
	return params, nil
}

// read decodes the i-th parameter.
func read[T any](params [][]byte, i int) (T, error) {
	var out T
	if i < len(params) {
		if err := json.Unmarshal(params[i], &out); err != nil {
			return out, jsonrpc.Errorf(jsonrpc.CodeParams, "invalid argument %d: %s", i, short(err.Error()))
		}
	}
	return out, nil
}

// short keeps an answer from growing with the nonsense that it quotes.
func short(s string) string {
	if len(s) > 200 {
		return s[:200] + "…"
	}
	return s
}

func readHash(params [][]byte, i int) (schema.Hash, error) {
	h, err := read[common.Hash](params, i)
	return schema.Hash(h), err
}

func readNumber(params [][]byte, i int) (rpc.BlockNumber, error) {
	return read[rpc.BlockNumber](params, i)
}

func readIndex(params [][]byte, i int) (uint64, error) {
	n, err := read[hexutil.Uint64](params, i)
	return uint64(n), err
}
