package ethrpc

import (
	"encoding/json"
	"slices"
	"testing"

	"github.com/firstseen/firstseen/internal/jsonrpc"
)

// Whatever the parameters are, there is one answer, and it is JSON.
func FuzzParameters(f *testing.F) {
	var names []string
	for name := range methods() {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, params := range []string{
		`[]`, `["latest",true]`, `["0x1",false]`, `[{"blockHash":"0x1","requireCanonical":1}]`, `[{"blockNumber":null}]`, `[null,null]`,
		`[{"fromBlock":"0x0","toBlock":"latest","address":[],"topics":[[null]]}]`, `["0x1","0x0"]`, `[[[]]]`, `[{"topics":{}}]`,
		`[{"address":[null]}]`, `["0x0000000000000000000000000000000000000000000000000000000000000000",{}]`,
	} {
		for method := range names {
			f.Add(uint8(method), []byte(params))
		}
	}
	chain, _ := growth(f, 2)
	l := serve(f, Options{Store: chain.store})
	f.Fuzz(func(t *testing.T, method uint8, params []byte) {
		text := append([]byte(`{"jsonrpc":"2.0","id":1,"method":"`+names[int(method)%len(names)]+`","params":`), params...)
		req, problem := l.s.Parse(append(text, '}'))
		if problem != nil {
			return
		}
		v := l.s.View(t.Context(), nil)
		defer v.Close()
		for i := range req.Calls {
			result, failure := v.Answer(t.Context(), &req.Calls[i])
			var e jsonrpc.Error
			if (failure == nil) == (result == nil) || !json.Valid(append(result, failure...)) {
				t.Errorf("%s: %s %s", text, result, failure)
			}
			if failure != nil && (json.Unmarshal(failure, &e) != nil || e.Code == jsonrpc.CodeInternal) {
				t.Errorf("%s: %s", text, failure)
			}
		}
	})
}
