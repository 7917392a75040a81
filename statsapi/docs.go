package statsapi

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"html/template"
	"net/http"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/go-chi/chi/v5"
)

const (
	documentType = "application/openapi+json"
	// docsPolicy lets the page have its own style sheet and nothing else: it has no script.
	docsPolicy = "default-src 'none'; style-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'; sandbox allow-same-origin allow-popups"
)

//go:embed docs.html
var docsPage string

//go:embed docs.css
var docsStyle string

// routeDocs serves the OpenAPI document, and a page for people that is made of it, once for all requests.
func (a *API) routeDocs(r chi.Router) error {
	document, err := json.Marshal(a.huma.OpenAPI())
	if err != nil {
		return fmt.Errorf("statsapi: write OpenAPI document: %w", err)
	}
	page, err := renderDocs(a.huma.OpenAPI())
	if err != nil {
		return fmt.Errorf("statsapi: write page of the API: %w", err)
	}
	serve := func(path, contentType, policy string, body []byte) {
		r.Get(path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", contentType)
			w.Header().Set("Content-Security-Policy", policy)
			_, _ = w.Write(body)
		})
	}
	serve("/openapi.json", documentType, policy, document)
	serve("/docs", "text/html; charset=utf-8", docsPolicy, page)
	serve("/docs/style.css", "text/css; charset=utf-8", policy, []byte(docsStyle))
	return nil
}

// docsOperation is what the page shows of one operation.
type docsOperation struct {
	Path, ID, Summary, Description string
	Parameters                     []docsField
	Answers                        []docsAnswer
	Example                        string
}

type docsAnswer struct{ Status, Text, Types, Model string }

type docsField struct{ Name, In, Type, Text string }

type docsModel struct {
	Name, Text string
	Fields     []docsField
}

func renderDocs(doc *huma.OpenAPI) ([]byte, error) {
	page, err := template.New("docs").Parse(docsPage)
	if err != nil {
		return nil, err
	}
	var data struct {
		Title, Version, Text string
		Operations           []docsOperation
		Models               []docsModel
	}
	data.Title, data.Version, data.Text = doc.Info.Title, doc.Info.Version, doc.Info.Description
	for path, item := range doc.Paths {
		data.Operations = append(data.Operations, docsOf(path, item.Get))
	}
	slices.SortFunc(data.Operations, func(a, b docsOperation) int { return strings.Compare(a.Path, b.Path) })
	for name, schema := range doc.Components.Schemas.Map() {
		data.Models = append(data.Models, docsModel{name, schema.Description, docsFields(schema)})
	}
	slices.SortFunc(data.Models, func(a, b docsModel) int { return strings.Compare(a.Name, b.Name) })
	var out bytes.Buffer
	err = page.Execute(&out, data)
	return out.Bytes(), err
}

func docsOf(path string, op *huma.Operation) docsOperation {
	out := docsOperation{Path: path, ID: op.OperationID, Summary: op.Summary, Description: op.Description}
	if op.Responses["101"] == nil { // curl speaks no WebSocket to people
		out.Example = exampleOf(path)
	}
	for _, p := range op.Parameters {
		out.Parameters = append(out.Parameters, docsField{p.Name, p.In, docsType(p.Schema), p.Description})
	}
	for status, response := range op.Responses {
		answer := docsAnswer{Status: status, Text: response.Description}
		var types []string
		for name, media := range response.Content {
			types = append(types, name)
			if media.Schema != nil {
				answer.Model = modelName(media.Schema)
			}
		}
		slices.Sort(types)
		answer.Types = strings.Join(types, ", ")
		out.Answers = append(out.Answers, answer)
	}
	slices.SortFunc(out.Answers, func(a, b docsAnswer) int { return strings.Compare(a.Status, b.Status) })
	return out
}

func docsFields(schema *huma.Schema) []docsField {
	var out []docsField
	for name, property := range schema.Properties {
		out = append(out, docsField{Name: name, Type: docsType(property), Text: property.Description})
	}
	slices.SortFunc(out, func(a, b docsField) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// docsType names a type as people do.
func docsType(schema *huma.Schema) string {
	switch types, _ := schema.Extensions["type"].([]string); {
	case len(types) > 0:
		return strings.Join(types, " or ")
	case modelName(schema) != "":
		return modelName(schema)
	case schema.Items != nil:
		return "list of " + docsType(schema.Items)
	case len(schema.Enum) > 0:
		words := make([]string, len(schema.Enum))
		for i, e := range schema.Enum {
			words[i] = fmt.Sprint(e)
		}
		return strings.Join(words, " | ")
	case schema.Nullable:
		return schema.Type + " or null"
	}
	return schema.Type
}

// modelName is the name that a reference ends with.
func modelName(schema *huma.Schema) string {
	return schema.Ref[strings.LastIndexByte(schema.Ref, '/')+1:]
}

// exampleOf is a command to try an operation with. A sample of each parameter in the path stands for it.
func exampleOf(path string) string {
	sample := strings.NewReplacer("{id}", "latest", "{name}", "geth-1", "{hash}", "0x…", "{address}", "0x…", "{key}", "0x…")
	return "curl -s http://127.0.0.1:8080" + sample.Replace(path)
}
