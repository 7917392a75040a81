package statsapi

import (
	"context"
	"errors"
	"mime"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/firstseen/firstseen/schema"
)

type payloadOutput struct {
	ContentType string `header:"Content-Type"`
	Disposition string `header:"Content-Disposition"`
	Body        []byte
}

func (a *API) routePayload() {
	responses := problems(a.huma.OpenAPI().Components.Schemas, http.StatusBadRequest, http.StatusNotFound,
		http.StatusGone)
	text := &huma.MediaType{Schema: &huma.Schema{Type: huma.TypeString}}
	responses["200"] = &huma.Response{
		Description: "The bytes as they were stored: JSON as JSON, anything else as text, whatever its sender called it.",
		Content:     map[string]*huma.MediaType{textType: text, "application/json": {Schema: &huma.Schema{}}},
	}
	register(a, "/v1/records/{key}/payload", "getPayload", "A record's payload", responses, a.payload)
}

func (a *API) payload(ctx context.Context, in *recordInput) (*payloadOutput, error) {
	record, err := a.recordByKey(ctx, in)
	if err != nil {
		return nil, err
	}
	payload, err := a.opts.Store.Payload(ctx, record.ID)
	if errors.Is(err, schema.ErrPayloadPruned) {
		return nil, huma.Error410Gone(err.Error())
	}
	if err != nil {
		return nil, err
	}
	kind := inertType(record.ContentType)
	name := string(record.Key) + ".txt"
	if kind != textType {
		name = string(record.Key) + ".json"
	}
	return &payloadOutput{ContentType: kind, Disposition: `attachment; filename="` + name + `"`, Body: payload}, nil
}

// inertType names a type under which a browser runs nothing. HTML and SVG are text to us.
func inertType(stored string) string {
	if t, _, err := mime.ParseMediaType(stored); err == nil && t == "application/json" {
		return "application/json"
	}
	return textType
}
