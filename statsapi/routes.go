package statsapi

import (
	"context"
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
	a.routeStats()
	a.routeRecords()
	a.routeBlocks()
	a.routeTransactions()
	a.routeAccounts()
	a.routeObservers()
	a.routeFeed()
	get(a, "/v1/connections", "getConnections", "Open connections of all servers", a.connections,
		http.StatusBadRequest)
	a.routeNodes()
	a.routeReplica()
	if a.live != nil {
		documentLiveRoutes(a.huma.OpenAPI())
	}
}

// get registers an operation that answers JSON or one of the given problems.
func get[I, O any](
	a *API, path, id, summary string, handle func(context.Context, *I) (*O, error), codes ...int,
) {
	register(a, path, id, summary, problems(a.huma.OpenAPI().Components.Schemas, codes...), handle)
}

// register registers an operation with all the answers that it may give but its 200, if that is JSON.
func register[I, O any](
	a *API, path, id, summary string, responses map[string]*huma.Response, handle func(context.Context, *I) (*O, error),
) {
	responses["304"] = &huma.Response{Description: "The client has this answer already: see If-None-Match"}
	huma.Register(a.huma, huma.Operation{
		Method: http.MethodGet, Path: path, OperationID: id, Summary: summary, Responses: responses,
		Parameters: []*huma.Param{
			{Name: "If-None-Match", In: "header", Schema: &huma.Schema{Type: huma.TypeString},
				Description: "The Etag of an earlier answer: 304 if it still is the answer."},
			{Name: minHeightHeader, In: "header", Schema: &huma.Schema{Type: huma.TypeString, Pattern: "^([0-9]+|0x[0-9a-fA-F]+)$"},
				Description: "Answer only once the chain has this height, which is waited for a moment; otherwise 503, " +
					"with the height that it has in " + heightHeader + "."},
		},
		SkipValidateParams: true, // see params.go
	}, presentable(a, handle))
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
