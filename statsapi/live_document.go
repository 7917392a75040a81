package statsapi

import (
	"net/http"

	"github.com/danielgtaylor/huma/v2"
)

// documentLiveRoutes describes how live connections begin, which is all that OpenAPI has words for. What is said on them is in
// docs/LIVE.md.
func documentLiveRoutes(doc *huma.OpenAPI) {
	wanted := []*huma.Param{
		textParameter("chain", "Only of these chains; several with commas."),
		textParameter("kind", "Only of these kinds, of block, status, bare, gap and alarm; several with commas."),
		textParameter("status", "Only of blocks that got this status; several with commas."),
		textParameter("address", "Only of blocks whose transactions name this account; several with commas."),
		textParameter("delivery", "instant, or finalized: each block once, when it is final."),
		textParameter("from", "latest, earliest, or a cursor: where to begin. Default latest."),
	}
	last := &huma.Param{Name: "Last-Event-ID", In: "header", Schema: &huma.Schema{Type: huma.TypeString},
		Description: "The id of the last event that was seen: goes on after it, whatever from says."}
	events := &huma.Response{
		Description: "Server-sent events without an end. The data of each is an Event, of those called gap a Gap.",
		Content:     map[string]*huma.MediaType{"text/event-stream": {Schema: &huma.Schema{Type: huma.TypeString}}},
	}
	documentLive(doc, "/v1/ws", "followBySocket", "The feed as it grows, by WebSocket", wanted, nil)
	documentLive(doc, "/v1/stream", "followByStream", "The feed as it grows, by server-sent events",
		append([]*huma.Param{last}, wanted...), events)
	documentLive(doc, "/v1/rpc", "followByRPC", "New heads by JSON-RPC over WebSocket, for Ethereum clients",
		[]*huma.Param{textParameter("chain", "Of this chain; needed where several are stored.")}, nil)
}

func textParameter(name, text string) *huma.Param {
	return &huma.Param{Name: name, In: "query", Description: text, Schema: &huma.Schema{Type: huma.TypeString}}
}

// documentLive adds a GET that answers ok or, if that is nil, becomes a WebSocket.
func documentLive(doc *huma.OpenAPI, path, id, summary string, parameters []*huma.Param, ok *huma.Response) {
	var responses map[string]*huma.Response
	if ok != nil {
		responses = problems(doc.Components.Schemas)
		responses["200"] = ok
	} else {
		responses = problems(doc.Components.Schemas, http.StatusUpgradeRequired)
		responses["101"] = &huma.Response{Description: "The connection speaks WebSocket from here on"}
	}
	delete(responses, "500") // nothing is read from the store before the connection stands
	doc.AddOperation(&huma.Operation{
		Method: http.MethodGet, Path: path, OperationID: id, Summary: summary, Parameters: parameters, Responses: responses,
	})
}
