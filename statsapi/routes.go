package statsapi

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humachi"
	"github.com/go-chi/chi/v5"
)

// routeV1 mounts what the OpenAPI document describes.
func (a *API) routeV1(r chi.Router) {
	// No paths for huma's own pages: they would come with links into the web, and $schema fields in every answer.
	a.huma = humachi.New(r, huma.Config{
		OpenAPI: &huma.OpenAPI{
			OpenAPI: "3.1.0",
			Info: &huma.Info{
				Title:   "firstseen",
				Version: a.opts.Version,
				Description: "Which blocks were seen, who saw them first, and where they stand in their chain; and what " +
					"observers think of their nodes. " +
					"Hashes and addresses are lower-case hex behind 0x, times are RFC 3339 in UTC, wei are decimal " +
					"strings. Errors are problems as RFC 9457 describes them.",
			},
		},
		Formats: map[string]huma.Format{
			"application/json": huma.DefaultJSONFormat,
			"json":             huma.DefaultJSONFormat, // what application/problem+json is looked up as
		},
		DefaultFormat: "application/json",
	})
	get(a, "/v1/stats", "getStats", "Everything in a few numbers", a.stats)
	get(a, "/v1/blocks", "listBlocks", "Blocks, newest first", a.listBlocks, http.StatusBadRequest)
	get(a, "/v1/blocks/{id}", "getBlock", "One block", a.getBlock, http.StatusBadRequest, http.StatusNotFound)
	get(a, "/v1/connections", "getConnections", "Open connections of all servers", a.connections)
	a.routeNodes()
	a.routePayload()
}

// get registers an operation that answers JSON or one of the given problems.
func get[I, O any](
	a *API, path, id, summary string, handle func(context.Context, *I) (*O, error), codes ...int,
) {
	op := huma.Operation{
		Method: http.MethodGet, Path: path, OperationID: id, Summary: summary,
		Responses:          problems(a.huma.OpenAPI().Components.Schemas, codes...),
		SkipValidateParams: true, // see params.go
	}
	huma.Register(a.huma, op, presentable(a, handle))
}

// presentable lets no error out but those made to be shown.
func presentable[I, O any](
	a *API, handle func(context.Context, *I) (*O, error),
) func(context.Context, *I) (*O, error) {
	return func(ctx context.Context, in *I) (*O, error) {
		out, err := handle(ctx, in)
		if err != nil {
			return nil, a.fail(ctx, err)
		}
		return out, nil
	}
}

// document returns the OpenAPI document, once for all requests.
func (a *API) document() ([]byte, error) {
	text, err := json.Marshal(a.huma.OpenAPI())
	if err != nil {
		return nil, fmt.Errorf("statsapi: write OpenAPI document: %w", err)
	}
	return text, nil
}
