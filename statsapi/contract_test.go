package statsapi

import (
	"context"
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/firstseen/firstseen/internal/presence"
	"github.com/firstseen/firstseen/schema"
)

// contract checks answers against the OpenAPI document and remembers which documented ones it has seen.
type contract struct {
	t    *testing.T
	doc  *huma.OpenAPI
	seen map[string]bool
}

// check asks s for path, which belongs to the operation documented at pattern.
func (c *contract) check(s *site, pattern, path string, status int, header ...string) {
	c.t.Helper()
	got := s.do(http.MethodGet, path, header...)
	if got.StatusCode != status {
		c.t.Errorf("%s: %d %s, want %d", path, got.StatusCode, got.body, status)
		return
	}
	response := c.doc.Paths[pattern].Get.Responses[fmt.Sprint(status)]
	if response == nil {
		c.t.Errorf("%s: status %d is not documented", pattern, status)
		return
	}
	c.seen[fmt.Sprint(pattern, " ", status)] = true
	if len(response.Content) == 0 {
		if got.body != "" {
			c.t.Errorf("%s: a body where none is documented: %s", path, got.body)
		}
		return
	}
	media := response.Content[got.Header.Get("Content-Type")]
	if media == nil {
		c.t.Errorf("%s: content type %q is not documented", path, got.Header.Get("Content-Type"))
		return
	}
	c.validate(path, media.Schema, got)
}

func (c *contract) validate(path string, schema *huma.Schema, got answer) {
	c.t.Helper()
	var value any = got.body
	if kind, _, _ := mime.ParseMediaType(got.Header.Get("Content-Type")); strings.HasSuffix(kind, "json") {
		if err := json.Unmarshal([]byte(got.body), &value); err != nil {
			c.t.Errorf("%s: %v", path, err)
			return
		}
	}
	buffer := huma.NewPathBuffer(nil, 0)
	result := &huma.ValidateResult{}
	huma.Validate(c.doc.Components.Schemas, schema, buffer, huma.ModeReadFromServer, value, result)
	for _, err := range result.Errors {
		c.t.Errorf("%s: %v", path, err)
	}
}

// complete fails for each documented answer that no check has seen.
func (c *contract) complete() {
	c.t.Helper()
	for pattern, item := range c.doc.Paths {
		for status := range item.Get.Responses {
			if !c.seen[pattern+" "+status] {
				c.t.Errorf("%s: no check has seen its %s", pattern, status)
			}
		}
	}
}

func TestEveryDocumentedAnswerKeepsToTheDocument(t *testing.T) {
	t.Parallel()
	w := drawn(t)
	beats := fixedPresence{Known: true, Total: 5, Servers: []presence.Server{
		{Server: "server-1", Count: 5, Age: 1500 * time.Millisecond, Address: "192.0.2.1:8888"},
	}}
	following := &standing{}
	s := serve(t, Options{Store: audited{w.store}, Presence: beats, Asker: threeAnswers(), HeightWait: 20 * time.Millisecond,
		Replica: following})
	unknown := serve(t, Options{Store: w.store})
	empty := serve(t, Options{Store: newWorld(t).store})
	broken := &brokenStore{Store: w.store}
	broken.fail(errSecret)
	failing := serve(t, Options{Store: broken, Replica: following})
	hung := &brokenStore{Store: w.store}
	hung.fail(context.DeadlineExceeded)
	hanging := serve(t, Options{Store: hung, RequestTimeout: 20 * time.Millisecond, Replica: following})

	c := &contract{t: t, doc: s.api.huma.OpenAPI(), seen: map[string]bool{}}
	const blocks, block, payload = "/v1/blocks", "/v1/blocks/{id}", "/v1/records/{key}/payload"
	c.check(s, "/v1/stats", "/v1/stats", 200)
	c.check(unknown, "/v1/stats", "/v1/stats", 200)
	c.check(empty, "/v1/stats", "/v1/stats", 200)
	c.check(s, blocks, "/v1/blocks", 200)
	c.check(s, blocks, "/v1/blocks?limit=2", 200)
	c.check(s, blocks, "/v1/blocks?cursor="+encodeCursorOf(3, 5, 9), 200)
	c.check(empty, blocks, "/v1/blocks", 200)
	c.check(s, blocks, "/v1/blocks?limit=0", 400)
	for number := range 6 {
		c.check(s, block, fmt.Sprint("/v1/blocks/", number+1), 200)
	}
	c.check(s, block, "/v1/blocks/4?chain=x", 400)
	c.check(s, block, "/v1/blocks/99", 404)
	c.check(s, "/v1/connections", "/v1/connections", 200)
	c.check(unknown, "/v1/connections", "/v1/connections", 200)
	c.check(s, "/v1/connections", "/v1/connections?consistency=strong&by=ip", 200)
	c.check(s, "/v1/connections", "/v1/connections?by=observer&limit=1", 200)
	c.check(s, "/v1/connections", "/v1/connections?by=server", 200)
	c.check(s, "/v1/connections", "/v1/connections?by=x", 400)
	const nodes, node = "/v1/nodes", "/v1/nodes/{name}"
	w.nodes()
	c.check(s, nodes, "/v1/nodes", 200)
	c.check(s, nodes, "/v1/nodes?limit=1&history=1", 200)
	c.check(empty, nodes, "/v1/nodes", 200)
	c.check(s, nodes, "/v1/nodes?chain=x", 400)
	c.check(s, node, "/v1/nodes/geth-1", 200)
	c.check(s, node, "/v1/nodes/geth-1?limit=0", 400)
	c.check(empty, node, "/v1/nodes/geth-1", 404)
	c.replica(s, empty, following)
	key := named("b2").String()
	c.check(s, payload, "/v1/records/"+key+"/payload", 200)
	c.check(s, payload, "/v1/records/"+key+"/payload?chain=x", 400)
	c.check(s, payload, "/v1/records/nothing/payload", 404)
	c.check(serve(t, Options{Store: prunedStore{w.store}}), payload, "/v1/records/"+key+"/payload", 410)
	c.lists(s, empty)
	sample := samples()
	for pattern, path := range sample {
		if pattern == "/v1/connections" {
			continue // never touches the store, so nothing can go wrong with it but the wait for a height
		}
		c.check(failing, pattern, path, 500)
		c.check(hanging, pattern, path, 503)
	}
	r := &ring{}
	observing := r.mint(t, schema.ScopeObserve)
	closed := serve(t, Options{Store: w.store, Access: Access{Mode: AccessKeys, Keys: r}})
	spent := serve(t, Options{Store: w.store, Access: Access{Rate: 1e-6, Burst: 1}})
	spent.get("/v1/connections")
	for pattern, path := range sample {
		c.check(closed, pattern, path, 401)
		c.check(closed, pattern, path, 403, "Authorization", "Bearer "+observing.Reveal())
		c.check(spent, pattern, path, 429)
	}
	// Every operation may be asked to wait for a height.
	for pattern, path := range sample {
		c.check(s, pattern, path, 400, minHeightHeader, "x")
		c.check(s, pattern, path, 503, minHeightHeader, "0x99")
		c.check(failing, pattern, path, 500, minHeightHeader, "1")
		c.check(s, pattern, path, 304, "If-None-Match", "*")
	}
	c.complete()
}

func TestDocumentIsSelfContained(t *testing.T) {
	t.Parallel()
	s := serve(t, Options{Store: newWorld(t).store, Version: "1.2.3"})
	got := s.get("/openapi.json")
	if got.StatusCode != http.StatusOK || got.Header.Get("Content-Type") != "application/openapi+json" {
		t.Fatalf("%d %s", got.StatusCode, got.Header)
	}
	var doc struct {
		OpenAPI string                    `json:"openapi"`
		Info    struct{ Version string }  `json:"info"`
		Paths   map[string]map[string]any `json:"paths"`
	}
	if err := json.Unmarshal([]byte(got.body), &doc); err != nil {
		t.Fatal(err)
	}
	if doc.OpenAPI != "3.1.0" || doc.Info.Version != "1.2.3" || len(doc.Paths) != len(samples()) {
		t.Errorf("openapi %s, version %s, %d paths", doc.OpenAPI, doc.Info.Version, len(doc.Paths))
	}
	for _, banned := range []string{"$schema", "422", "unpkg"} {
		if strings.Contains(got.body, banned) {
			t.Errorf("the document mentions %s", banned)
		}
	}
	for path, operations := range doc.Paths {
		if _, ok := operations["get"]; !ok || len(operations) != 1 {
			t.Errorf("%s has other operations than get", path)
		}
	}
	if body := s.get("/v1/stats").body; strings.Contains(body, "$schema") {
		t.Errorf("an answer has a $schema: %s", body)
	}
}

func TestNumbersBeyondExactDoublesAreStrings(t *testing.T) {
	t.Parallel()
	for n, want := range map[Number]string{
		0: "0", 1 << 53: "9007199254740992", 1<<53 + 1: `"9007199254740993"`, 1<<64 - 1: `"18446744073709551615"`,
	} {
		text, err := json.Marshal([]any{n, OptionalNumber{Number: n, Known: true}, OptionalNumber{}})
		if err != nil || string(text) != fmt.Sprintf("[%s,%[1]s,null]", want) {
			t.Errorf("%d: %s, %v", uint64(n), text, err)
		}
		var back [3]OptionalNumber
		if err := json.Unmarshal(text, &back); err != nil || back[0].Number != n || back[1].Number != n || back[2].Known {
			t.Errorf("%s read as %+v, %v", text, back, err)
		}
	}
	for _, bad := range []string{`"x"`, `-1`, `1.5`, `""`, `true`, `"`} {
		var n Number
		if json.Unmarshal([]byte(bad), &n) == nil {
			t.Errorf("%s read as %d", bad, n)
		}
	}
	types := numberSchema("integer", "string", "null").Extensions["type"].([]string)
	if !slices.Contains(types, "null") {
		t.Errorf("types %v", types)
	}
}
