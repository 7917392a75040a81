package wire_test

import (
	"errors"
	"fmt"
	"time"

	"github.com/firstseen/firstseen/internal/wire"
	"github.com/firstseen/firstseen/schema"
)

func ExampleAppendHello() {
	hello, err := wire.AppendHello(nil, wire.Hello{Observer: "paris-1", Chains: []uint64{1}})
	fmt.Println(string(hello), err)
	parsed, err := wire.ParseHello(hello)
	fmt.Println(wire.IsHello(hello), parsed.Observer, parsed.Chains, err)
	// Output:
	// <!--firstseen/1 {"observer":"paris-1","chains":[1],"caps":[]}--> <nil>
	// true paris-1 [1] <nil>
}

func ExampleParseHello_otherVersion() {
	_, err := wire.ParseHello([]byte("<!--firstseen/2 whatever"))
	var broken *wire.Error
	fmt.Println(errors.As(err, &broken), broken.Code)
	// Output: true version
}

func ExampleParseData() {
	frame, err := wire.AppendData(nil, schema.Observation{
		Chain:       1,
		Header:      schema.Bytes{0xc0},
		Hash:        schema.Hash{0xab},
		Node:        "geth-1",
		ObservedAt:  time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
		ContentType: "text/plain",
		Origin:      schema.OriginHead,
	}, []byte("two\nlines"))
	fmt.Println(err)
	o, payload, err := wire.ParseData(frame)
	fmt.Printf("%d %s %q %v\n", o.Chain, o.Header, payload, err)
	// Output:
	// <nil>
	// 1 0xc0 "two\nlines" <nil>
}

func ExampleAppendAck() {
	ack := wire.AppendAck(nil, 7, []byte{wire.FlagFirst, wire.FlagDuplicate})
	fmt.Println(string(ack))
	n, flags, err := wire.ParseAck(ack)
	fmt.Println(n, string(flags), err)
	// Output:
	// A7 fd
	// 7 fd <nil>
}

func ExampleAppendRefusal() {
	fmt.Println(string(wire.AppendRefusal(nil, wire.Refusal{N: 8, Code: wire.CodeHeader, Text: "hash\tdiffers"})))
	// Output: N8 header hash?differs
}

func ExampleAppendFatal() {
	frame := wire.AppendFatal(nil, wire.Fatal{Retry: true, Code: wire.CodeBusy, Text: "try later"})
	fmt.Println(string(frame))
	fatal, err := wire.ParseFatal(frame)
	fmt.Println(fatal.Retry, fatal.Code, err)
	// Output:
	// Eretry busy try later
	// true busy <nil>
}

func ExampleAppendDrain() {
	fmt.Println(string(wire.AppendDrain(nil, 10*time.Second)))
	// Output: G10000
}

func ExampleAppendStatus() {
	status, err := wire.AppendStatus(nil, schema.Report{
		Gaps: []schema.Gap{{Chain: 1, From: 5, To: 6, Reason: "pruned"}},
	})
	fmt.Println(string(status), err)
	// Output: S{"gaps":[{"chain":1,"from":5,"to":6,"reason":"pruned"}]} <nil>
}
