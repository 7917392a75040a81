package wire_test

import (
	"strings"
	"testing"
	"time"

	"github.com/firstseen/firstseen/internal/wire"
	"github.com/firstseen/firstseen/schema"
)

type wireCase struct {
	name, kind string
	content    []byte
	code       wire.Code
}

func must(t *testing.T) func([]byte, error) []byte {
	return func(b []byte, err error) []byte {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
}

func ptr[T any](v T) *T { return &v }

func observation() schema.Observation {
	return schema.Observation{
		Chain:       1,
		Header:      schema.Bytes{0xc2, 0x01, 0x02}, // the codec does not look inside
		Hash:        schema.Hash{0x11, 31: 0x22},
		Node:        "geth-1",
		ObservedAt:  time.Date(2026, 1, 2, 3, 4, 5, 678900000, time.UTC),
		ContentType: "text/html; charset=utf-8",
		Origin:      schema.OriginHead,
	}
}

func fullObservation() schema.Observation {
	o := observation()
	o.Origin = schema.OriginBackfill
	o.Transactions = []schema.Transaction{
		{Hash: schema.Hash{1}, Index: 0, From: schema.Address{2}, To: &schema.Address{3}, Value: "0",
			GasUsed: ptr(uint64(21000)), Status: ptr(uint8(1))},
		{Hash: schema.Hash{4}, Index: 1, From: schema.Address{2}, Value: maxWei,
			GasUsed: ptr(uint64(90000)), Status: ptr(uint8(0)), Contract: &schema.Address{5}},
		{Hash: schema.Hash{6}, Index: 7, From: schema.Address{2}, To: &schema.Address{3}, Value: "1"},
	}
	return o
}

func withRaw(o schema.Observation, raw string) schema.Observation {
	o.Raw = []byte(raw)
	return o
}

const maxWei = "115792089237316195423570985008687907853269984665640564039457584007913129639935"

func report() schema.Report {
	point := schema.Point{Number: 19000000, Hash: schema.Hash{7}}
	return schema.Report{
		Heads: []schema.Head{
			{Chain: 1, Node: "geth-1", Latest: point, Safe: &point, Finalized: &point},
			{Chain: 5, Node: "geth-2", Latest: point},
		},
		Nodes: []schema.NodeView{
			{Name: "geth-1", Chain: 1, State: schema.NodeReady, Height: ptr(uint64(19000000)), Since: time.Unix(1, 0).UTC()},
			{Name: "geth-2", Chain: 5, State: schema.NodeUnknown, Reason: "connection refused", Since: time.Unix(2, 0).UTC()},
			{Name: "geth-3", Chain: 1, State: schema.NodeLagging, Reason: "<12> blocks behind", Height: ptr(uint64(18999988)),
				Lag: ptr(uint64(12)), Since: time.Unix(3, 5000).UTC(), Cordoned: true,
				Latency: &schema.Latency{P50: 1.25, P99: 870}},
		},
		Events: []schema.NodeEvent{
			{Node: "geth-3", Chain: 1, From: schema.NodeReady, To: schema.NodeLagging, Reason: "<12> blocks behind",
				At: time.Unix(3, 5000).UTC()},
			{Node: "geth-2", Chain: 5, From: schema.NodeLive, To: schema.NodeUnknown, At: time.Unix(2, 0).UTC()},
		},
		Gaps: []schema.Gap{{Chain: 1, From: 5, To: 9, Reason: "pruned <by> the node"}},
	}
}

// welcome names one chain, with the ancestors of its position at those heights.
func welcome(back ...uint64) wire.Welcome {
	w := wire.Welcome{
		Server: "relay-1", Session: "0123456789abcdef",
		WindowFrames: wire.WindowFrames, WindowBytes: wire.WindowBytes, MaxFrame: wire.MaxFrame,
		PingMillis: int(wire.PingAfter.Milliseconds()), DeadMillis: int(wire.DeadAfter.Milliseconds()),
		Chains: []schema.Position{{Chain: 1, Point: schema.Point{Number: 12, Hash: schema.Hash{9}}}},
		Caps:   []string{},
	}
	for _, n := range back {
		w.Chains[0].Back = append(w.Chains[0].Back, schema.Point{Number: n, Hash: schema.Hash{byte(n + 1)}})
	}
	return w
}

// welcomeBack is a W that names a position of height 12 and those ancestors, whether or not they may stand there.
func welcomeBack(heights []string) string {
	hash := `"hash":"0x01` + strings.Repeat("0", 62) + `"}`
	return `W{"server":"s","session":"1","window_frames":1,"window_bytes":1,"max_frame":1,"ping_ms":1,"dead_ms":1,` +
		`"chains":[{"chain":1,"number":12,"back":[{"number":` + strings.Join(heights, `,`+hash+`,{"number":`) + `,` + hash +
		`],` + hash + `]}`
}

func goodCases(t *testing.T) []wireCase {
	ok := must(t)
	c := func(kind, name string, content []byte) wireCase {
		return wireCase{name: name, kind: kind, content: content}
	}
	s := func(kind, name, content string) wireCase { return c(kind, name, []byte(content)) }
	return []wireCase{
		c("hello", "least", ok(wire.AppendHello(nil, wire.Hello{Observer: "a"}))),
		c("hello", "two chains, a cap and a token", ok(wire.AppendHello(nil, wire.Hello{
			Observer: "paris-1", Chains: []uint64{1, 11155111}, Caps: []string{"zstd"}, Token: "t<0>ken"}))),
		c("hello", "an access key", ok(wire.AppendHello(nil, wire.Hello{Observer: "paris-1", Chains: []uint64{1}, Caps: []string{},
			Token: "fsk_" + strings.Repeat("a", 16) + "_" + strings.Repeat("b", 52)}))),
		s("hello", "unknown name, absent lists, spaces", `<!--firstseen/1 { "observer": "b", "later": {"x": [1]} }-->`),
		c("welcome", "one chain", ok(wire.AppendWelcome(nil, welcome()))),
		c("welcome", "ancestors down to the first block", ok(wire.AppendWelcome(nil, welcome(11, 8, 0)))),
		s("welcome", "unknown name, absent lists", `W{"server":"s","session":"1","window_frames":1,"window_bytes":1,`+
			`"max_frame":1,"ping_ms":1,"dead_ms":1,"later":true}`),
		c("data", "least", ok(wire.AppendData(nil, observation(), []byte("<p>1</p>\n")))),
		c("data", "transactions with and without receipts", ok(wire.AppendData(nil, fullObservation(), []byte{0, 0xff, '\n', ','}))),
		c("data", "empty payload", ok(wire.AppendData(nil, observation(), nil))),
		c("data", "raw part", ok(wire.AppendData(nil, withRaw(fullObservation(), "\x1f\x8braw\n"), []byte("<p>1</p>\n")))),
		c("data", "raw part behind an empty payload", ok(wire.AppendData(nil, withRaw(observation(), "r"), nil))),
		s("data", "raw null", strings.Replace(string(ok(wire.AppendData(nil, observation(), []byte("x")))), `}`, `,"raw":null}`, 1)),
		s("data", "unknown name, other time zone, upper-case hash", `D{"chain":9223372036854775807,"header":"0xC0",`+
			`"hash":"0xABCDEF0000000000000000000000000000000000000000000000000000000001","node":"n","observed_at":`+
			`"2026-01-02T04:04:05+01:00","content_type":"a/b","origin":"head","transactions":null,"later":0}`+"\npayload"),
		c("status", "heads, nodes, events and gaps", ok(wire.AppendStatus(nil, report()))),
		s("status", "empty", `S{}`),
		s("status", "reasons of 200 bytes", strings.ReplaceAll(`S{"nodes":[`+statusNode+`],"events":[`+statusEvent+`]}`,
			`"r"`, `"`+strings.Repeat("é", wire.MaxText/2)+`"`)),
		s("status", "times of another zone", `S{"nodes":[{"name":"n","chain":1,"state":"live","height":null,`+
			`"since":"2026-01-02T04:04:05+01:00"}],"events":[{"node":"n","chain":1,"from":"unknown","to":"live",`+
			`"reason":"","at":"2026-01-02T04:04:05.5+01:00"}]}`),
		s("status", "node state of a later version", `S{"nodes":[{"name":"n","chain":1,"state":"resting","height":null,`+
			`"since":"2026-01-02T03:04:05Z"}]}`),
		s("ack", "one", "A1 f"),
		s("ack", "several", "A7 fddf"),
		s("ack", "greatest", "A18446744073709551615 d"),
		s("refusal", "header", "N8 header the hash differs"),
		s("refusal", "authenticated observers only", "N3 auth hashes of chain 8217 cannot be verified"),
		s("refusal", "raw part", "N5 raw the raw part is not one gzip member"),
		s("refusal", "no text", "N1 data "),
		s("refusal", "code of a later version, text in UTF-8", "N2 later_1 Größe 世界"),
		s("ping", "ping", "P"),
		s("pong", "pong", "O"),
		s("bye", "bye", "B"),
		s("drain", "ten seconds", "G10000"),
		s("drain", "at once", "G0"),
		s("fatal", "stop", "Estop version this server speaks version 1"),
		s("fatal", "access key revoked", "Estop auth the access key was revoked"),
		s("fatal", "retry", "Eretry busy too many connections"),
		s("fatal", "no text", "Estop protocol "),
	}
}

func badCases() []wireCase {
	var cases []wireCase
	add := func(kind string, code wire.Code, name, content string) {
		cases = append(cases, wireCase{name: name, kind: kind, content: []byte(content), code: code})
	}
	badHellos(add)
	badData(add)
	badServerFrames(add)
	add("status", wire.CodeProtocol, "not an object", "S[]")
	add("status", wire.CodeProtocol, "empty", "S")
	add("status", wire.CodeProtocol, "duplicate name", `S{"gaps":[],"gaps":[]}`)
	add("status", wire.CodeProtocol, "gap ends before it begins", `S{"gaps":[{"chain":1,"from":2,"to":1,"reason":""}]}`)
	add("status", wire.CodeProtocol, "head without hash", `S{"heads":[{"chain":1,"node":"n","latest":{"number":1}}]}`)
	add("status", wire.CodeProtocol, "node without name",
		`S{"nodes":[{"chain":1,"state":"live","height":1,"since":"2026-01-02T03:04:05Z"}]}`)
	badStatus(add)
	add("pong", wire.CodeProtocol, "with content", "O1")
	add("bye", wire.CodeProtocol, "with content", "B ")
	add("ping", wire.CodeProtocol, "empty content", "")
	return cases
}

const (
	statusNode = `{"name":"n","chain":1,"state":"lagging","reason":"r","height":1,"lag":2,"since":"2026-01-02T03:04:05Z",` +
		`"cordoned":true,"latency":{"p50_ms":1.5,"p99_ms":20}}`
	statusEvent = `{"node":"n","chain":1,"from":"ready","to":"lagging","reason":"r","at":"2026-01-02T03:04:05Z"}`
)

// many repeats a JSON value n times, as in a list.
func many(n int, value string) string { return strings.Repeat(value+",", n-1) + value }

// badStatus takes one good view and one good transition and breaks one thing at a time.
func badStatus(add func(kind string, code wire.Code, name, content string)) {
	node := func(name, old, with string) {
		if !strings.Contains(statusNode, old) {
			panic(name)
		}
		add("status", wire.CodeProtocol, "node: "+name, `S{"nodes":[`+strings.Replace(statusNode, old, with, 1)+`]}`)
	}
	node("chain 0", `"chain":1`, `"chain":0`)
	node("no state", `"state":"lagging",`, ``)
	node("no since", `"since":"2026-01-02T03:04:05Z",`, ``)
	node("since before 1970", `2026-01`, `1926-01`)
	node("reason of 201 bytes", `"r"`, `"`+strings.Repeat("x", wire.MaxText+1)+`"`)
	node("reason with a line feed", `"r"`, `"a\nb"`)
	node("reason with a direction override", `"r"`, `"\u202e"`)
	node("height of 2^63", `"height":1`, `"height":9223372036854775808`)
	node("height negative", `"height":1`, `"height":-1`)
	node("lag of 2^63", `"lag":2`, `"lag":9223372036854775808`)
	node("latency negative", `"p50_ms":1.5`, `"p50_ms":-1`)
	node("latency of 25 days", `"p99_ms":20`, `"p99_ms":2160000000`)
	node("latency beyond any number", `"p99_ms":20`, `"p99_ms":1e999`)
	node("latency a string", `"p99_ms":20`, `"p99_ms":"20"`)
	node("cordoned a number", `"cordoned":true`, `"cordoned":1`)
	add("status", wire.CodeProtocol, "129 nodes", `S{"nodes":[`+many(wire.MaxNodes+1,
		`{"name":"n","chain":1,"state":"live","since":"2026-01-02T03:04:05Z"}`)+`]}`)

	event := func(name, old, with string) {
		if !strings.Contains(statusEvent, old) {
			panic(name)
		}
		add("status", wire.CodeProtocol, "event: "+name, `S{"events":[`+strings.Replace(statusEvent, old, with, 1)+`]}`)
	}
	event("chain 0", `"chain":1`, `"chain":0`)
	event("no node", `"node":"n",`, ``)
	event("node with a slash", `"node":"n"`, `"node":"n/m"`)
	event("no from", `"from":"ready",`, ``)
	event("to with a space", `"to":"lagging"`, `"to":"not ready"`)
	event("no at", `,"at":"2026-01-02T03:04:05Z"`, ``)
	event("at after 9999", `"2026-01`, `"12026-01`)
	event("reason of 201 bytes", `"r"`, `"`+strings.Repeat("x", wire.MaxText+1)+`"`)
	event("reason with an escape character", `"r"`, `"\u001b[2J"`)
	add("status", wire.CodeProtocol, "129 events", `S{"events":[`+many(wire.MaxEvents+1,
		`{"node":"n","chain":1,"from":"live","to":"ready","at":"2026-01-02T03:04:05Z"}`)+`]}`)
}

func badHellos(add func(kind string, code wire.Code, name, content string)) {
	hello := func(code wire.Code, name, content string) { add("hello", code, name, content) }
	hello(wire.CodeVersion, "version 2", `<!--firstseen/2 {"observer":"a"}-->`)
	hello(wire.CodeVersion, "version 10, the rest unreadable", `<!--firstseen/10 ?`)
	hello(wire.CodeProtocol, "prefix alone", `<!--firstseen/`)
	hello(wire.CodeProtocol, "no version", `<!--firstseen/ {"observer":"a"}-->`)
	hello(wire.CodeProtocol, "version with leading zero", `<!--firstseen/01 {"observer":"a"}-->`)
	hello(wire.CodeProtocol, "version with sign", `<!--firstseen/+1 {"observer":"a"}-->`)
	hello(wire.CodeProtocol, "no space", `<!--firstseen/1{"observer":"a"}-->`)
	hello(wire.CodeProtocol, "two spaces", `<!--firstseen/1  {"observer":"a"}-->`)
	hello(wire.CodeProtocol, "comment not closed", `<!--firstseen/1 {"observer":"a"}`)
	hello(wire.CodeProtocol, "comment closed early", `<!--firstseen/1 {"observer":"a","later":"-->"}-->`)
	hello(wire.CodeProtocol, "bytes behind the comment", `<!--firstseen/1 {"observer":"a"}-->`+"\n")
	hello(wire.CodeProtocol, "JSON cut off", `<!--firstseen/1 {"observer":"a"-->`)
	hello(wire.CodeProtocol, "two objects", `<!--firstseen/1 {"observer":"a"}{}-->`)
	hello(wire.CodeProtocol, "array", `<!--firstseen/1 ["a"]-->`)
	hello(wire.CodeProtocol, "no observer", `<!--firstseen/1 {}-->`)
	hello(wire.CodeProtocol, "observer by another case", `<!--firstseen/1 {"Observer":"a"}-->`)
	hello(wire.CodeProtocol, "observer empty", `<!--firstseen/1 {"observer":""}-->`)
	hello(wire.CodeProtocol, "observer of 65", `<!--firstseen/1 {"observer":"`+strings.Repeat("a", 65)+`"}-->`)
	hello(wire.CodeProtocol, "observer with a slash", `<!--firstseen/1 {"observer":"a/b"}-->`)
	hello(wire.CodeProtocol, "observer with a line feed", `<!--firstseen/1 {"observer":"a\n"}-->`)
	hello(wire.CodeProtocol, "observer a number", `<!--firstseen/1 {"observer":1}-->`)
	hello(wire.CodeProtocol, "duplicate name", `<!--firstseen/1 {"observer":"a","observer":"b"}-->`)
	hello(wire.CodeProtocol, "duplicate name, once escaped", `<!--firstseen/1 {"observer":"a","obs\u0065rver":"b"}-->`)
	hello(wire.CodeProtocol, "invalid UTF-8", "<!--firstseen/1 {\"observer\":\"a\",\"later\":\"\xff\"}-->")
	hello(wire.CodeProtocol, "lone surrogate", `<!--firstseen/1 {"observer":"a","later":"\ud800"}-->`)
	hello(wire.CodeProtocol, "chain 0", `<!--firstseen/1 {"observer":"a","chains":[0]}-->`)
	hello(wire.CodeProtocol, "chain twice", `<!--firstseen/1 {"observer":"a","chains":[1,1]}-->`)
	hello(wire.CodeProtocol, "chain negative", `<!--firstseen/1 {"observer":"a","chains":[-1]}-->`)
	hello(wire.CodeProtocol, "chain a fraction", `<!--firstseen/1 {"observer":"a","chains":[1.5]}-->`)
	hello(wire.CodeProtocol, "chain a string", `<!--firstseen/1 {"observer":"a","chains":["1"]}-->`)
	hello(wire.CodeProtocol, "chain above 64 bits", `<!--firstseen/1 {"observer":"a","chains":[18446744073709551616]}-->`)
	hello(wire.CodeProtocol, "65 chains", `<!--firstseen/1 {"observer":"a","chains":[`+manyChains+`]}-->`)
	hello(wire.CodeProtocol, "cap with a space", `<!--firstseen/1 {"observer":"a","caps":["a b"]}-->`)
	hello(wire.CodeProtocol, "token with a control character", `<!--firstseen/1 {"observer":"a","token":"a\u0000"}-->`)
	hello(wire.CodeSize, "one byte too long",
		`<!--firstseen/1 {"observer":"a","later":"`+strings.Repeat("x", wire.MaxHello+1-len(`<!--firstseen/1 {"observer":"a","later":""}-->`))+`"}-->`)
}

const manyChains = "1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31,32,33," +
	"34,35,36,37,38,39,40,41,42,43,44,45,46,47,48,49,50,51,52,53,54,55,56,57,58,59,60,61,62,63,64,65"

// badData takes one good D frame and breaks one thing at a time.
func badData(add func(kind string, code wire.Code, name, content string)) {
	const good = `D{"chain":1,"header":"0xc0","hash":"0x1100000000000000000000000000000000000000000000000000000000000022",` +
		`"node":"n","observed_at":"2026-01-02T03:04:05Z","content_type":"a/b","origin":"head","transactions":[` +
		`{"hash":"0x0100000000000000000000000000000000000000000000000000000000000000","index":3,` +
		`"from":"0x0200000000000000000000000000000000000000","to":null,"value":"1","gas_used":1,"status":1,"contract":null}]}` + "\npayload"
	data := func(name, old, with string) {
		if !strings.Contains(good, old) {
			panic(name)
		}
		add("data", wire.CodeMeta, name, strings.Replace(good, old, with, 1))
	}
	data("no line feed", "\n", "")
	data("line feed inside the JSON", `"node":`, "\n"+`"node":`)
	data("no JSON", good, "D\npayload")
	data("JSON cut off", "}\n", "\n")
	data("two objects", "}\n", "}{}\n")
	data("duplicate name", `"node":"n"`, `"node":"n","node":"m"`)
	data("duplicate name in a transaction", `"index":3`, `"index":3,"index":4`)
	data("invalid UTF-8", `"node":"n"`, `"node":"n","later":"`+"\xc3\x28"+`"`)
	data("chain 0", `"chain":1`, `"chain":0`)
	data("chain null", `"chain":1`, `"chain":null`)
	data("chain a string", `"chain":1`, `"chain":"1"`)
	data("chain of 2^63", `"chain":1`, `"chain":9223372036854775808`)
	data("no header", `"header":"0xc0",`, ``)
	data("header empty", `0xc0`, `0x`)
	data("header of odd length", `0xc0`, `0xc`)
	data("header without 0x", `0xc0`, `c0`)
	data("header not hex", `0xc0`, `0xzz`)
	data("header an array", `"0xc0"`, `[192]`)
	data("no hash", `"hash":"0x1100000000000000000000000000000000000000000000000000000000000022",`, ``)
	data("hash of 31 bytes", `0022"`, `22"`)
	data("hash all zero", `0x1100000000000000000000000000000000000000000000000000000000000022`, `0x`+strings.Repeat("0", 64))
	data("node empty", `"node":"n"`, `"node":""`)
	data("node with quote", `"node":"n"`, `"node":"');DROP"`)
	data("no time", `"observed_at":"2026-01-02T03:04:05Z",`, ``)
	data("time without zone", `05Z"`, `05"`)
	data("time a number", `"2026-01-02T03:04:05Z"`, `1767323045`)
	data("time before 1970", `2026-01`, `1926-01`)
	data("no content type", `"a/b"`, `""`)
	data("content type of 129", `"a/b"`, `"`+strings.Repeat("a", wire.MaxContentType+1)+`"`)
	data("content type with a line feed", `"a/b"`, `"a/b\n"`)
	data("origin unknown", `"head"`, `"hearsay"`)
	data("transactions an object", `"transactions":[`, `"later":{},"transactions":{},"more":[`)
	data("transaction without hash", `"hash":"0x0100000000000000000000000000000000000000000000000000000000000000",`, ``)
	data("index negative", `"index":3`, `"index":-3`)
	data("index of 2^32", `"index":3`, `"index":4294967296`)
	data("indexes do not ascend", `"contract":null}`, `"contract":null},{"hash":"0x`+strings.Repeat("7", 64)+
		`","index":3,"from":"0x`+strings.Repeat("2", 40)+`","to":null,"value":"1"}`)
	data("value a number", `"value":"1"`, `"value":1`)
	data("value negative", `"value":"1"`, `"value":"-1"`)
	data("value with leading zero", `"value":"1"`, `"value":"01"`)
	data("value in hex", `"value":"1"`, `"value":"0x1"`)
	data("value in full-width digits", `"value":"1"`, `"value":"１"`)
	data("value of 2^256", `"value":"1"`, `"value":"115792089237316195423570985008687907853269984665640564039457584007913129639936"`)
	data("value of 79 digits", `"value":"1"`, `"value":"`+strings.Repeat("1", 79)+`"`)
	data("gas of 2^63", `"gas_used":1`, `"gas_used":9223372036854775808`)
	data("raw 0", `"chain":1`, `"chain":1,"raw":0`)
	data("raw longer than what is behind the JSON", `"chain":1`, `"chain":1,"raw":8`)
	data("raw of 2^64", `"chain":1`, `"chain":1,"raw":18446744073709551616`)
	data("raw negative", `"chain":1`, `"chain":1,"raw":-1`)
	data("raw a fraction", `"chain":1`, `"chain":1,"raw":1.0`)
	data("raw a string", `"chain":1`, `"chain":1,"raw":"7"`)
	data("raw twice", `"chain":1`, `"chain":1,"raw":7,"raw":7`)
	data("status 2", `"status":1`, `"status":2`)
	data("status a boolean", `"status":1`, `"status":true`)
	data("from of 19 bytes", `"0x0200000000000000000000000000000000000000"`, `"0x02000000000000000000000000000000000000"`)
}

func badServerFrames(add func(kind string, code wire.Code, name, content string)) {
	bad := func(kind, name, content string) { add(kind, wire.CodeProtocol, name, content) }
	bad("welcome", "empty object", "W{}")
	bad("welcome", "window 0", `W{"server":"s","session":"1","window_frames":0,"window_bytes":1,"max_frame":1,"ping_ms":1,"dead_ms":1}`)
	bad("welcome", "chain without hash", `W{"server":"s","session":"1","window_frames":1,"window_bytes":1,"max_frame":1,`+
		`"ping_ms":1,"dead_ms":1,"chains":[{"chain":1,"number":2}]}`)
	for _, back := range []string{"12", "13", "8 11", "8 8"} {
		bad("welcome", "position 12, ancestors "+back, welcomeBack(strings.Fields(back)))
	}
	bad("welcome", "ancestor without hash", strings.Replace(welcomeBack([]string{"1"}), `,"hash":"0x01`, `,"hush":"0x01`, 1))
	bad("ack", "no flags", "A1 ")
	bad("ack", "no space", "A1")
	bad("ack", "no number", "A f")
	bad("ack", "mark 0", "A0 ")
	bad("ack", "more flags than the mark", "A1 fd")
	bad("ack", "leading zero", "A01 f")
	bad("ack", "sign", "A+1 f")
	bad("ack", "above 64 bits", "A18446744073709551616 f")
	bad("ack", "unknown flag", "A1 x")
	bad("ack", "flags apart", "A2 f d")
	bad("refusal", "frame 0", "N0 header x")
	bad("refusal", "no code", "N1")
	bad("refusal", "no space behind the code", "N1 header")
	bad("refusal", "code in upper case", "N1 Header x")
	bad("refusal", "text with a line feed", "N1 header a\nb")
	bad("refusal", "text with an escape character", "N1 header \x1b[2J")
	bad("refusal", "text with a direction override", "N1 header \u202e")
	bad("refusal", "text of 201 bytes", "N1 header "+strings.Repeat("x", wire.MaxText+1))
	bad("drain", "no number", "G")
	bad("drain", "negative", "G-1")
	bad("drain", "beyond 2^31-1", "G2147483648")
	bad("fatal", "neither retry nor stop", "Emaybe busy x")
	bad("fatal", "no code", "Estop")
	bad("fatal", "no space behind the code", "Estop busy")
	bad("fatal", "invalid UTF-8", "Estop busy \xff")
}
