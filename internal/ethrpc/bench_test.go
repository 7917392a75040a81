package ethrpc

import (
	"fmt"
	"strings"
	"testing"
)

func BenchmarkAnswers(b *testing.B) {
	f, _ := growth(b, 200)
	l := serve(b, Options{Store: f.store})
	question := func(method, params string) string {
		return `{"jsonrpc":"2.0","id":1,"method":"` + method + `","params":` + params + `}`
	}
	batch := make([]string, 100)
	for i := range batch {
		batch[i] = question("eth_getBlockByNumber", fmt.Sprintf(`["0x%x",false]`, 50+i))
	}
	for _, test := range []struct{ name, text string }{
		{"chainId", question("eth_chainId", "[]")},
		{"head", question("eth_getBlockByNumber", `["latest",true]`)},
		{"old", question("eth_getBlockByNumber", `["0x60",true]`)},
		{"batch of 100", "[" + strings.Join(batch, ",") + "]"},
		{"logs none", question("eth_getLogs", `[{"fromBlock":"0x1","address":"0x00000000000000000000000000000000000000ff"}]`)},
		{"logs all", question("eth_getLogs", `[{"fromBlock":"0x1"}]`)},
	} {
		b.Run(test.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				l.say(test.text)
			}
		})
	}
}
