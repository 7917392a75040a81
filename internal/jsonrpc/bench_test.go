package jsonrpc

import (
	"strings"
	"testing"
)

func BenchmarkParse(b *testing.B) {
	const one = `{"jsonrpc":"2.0","id":1,"method":"eth_getBalance","params":["0x407d73d8a49eeb85d32cf465507dd71d507100c1","latest"]}`
	for name, text := range map[string]string{"one": one, "batch of 100": "[" + strings.Repeat(one+",", 99) + one + "]"} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, problem := Parse([]byte(text), 100); problem != nil {
					b.Fatal(problem)
				}
			}
		})
	}
}
