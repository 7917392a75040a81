package statsapi

import (
	"errors"
	"net/http"
	"strconv"

	"github.com/firstseen/firstseen/internal/ethrpc"
	"github.com/firstseen/firstseen/internal/jsonrpc"
)

// rpcPath is where JSON-RPC is answered over HTTP.
const rpcPath = "/rpc"

// rpcBody is the largest JSON-RPC request, in bytes.
const rpcBody = 1 << 20

// RPCOptions configure JSON-RPC, at /rpc and /v1/rpc.
type RPCOptions struct {
	Upstream string // URL of a gateway or node that is asked what blocks cannot answer; empty: nobody
}

func newRPC(o Options) (*ethrpc.Service, error) {
	rpc := ethrpc.Options{
		Store: o.Store, Version: o.Version, Upstream: o.RPC.Upstream, UpstreamTimeout: o.RequestTimeout * 4 / 5,
		Log: o.Log, Registerer: o.Registerer,
	}
	if o.Replica != nil {
		rpc.Replica = o.Replica.State
	}
	return ethrpc.New(rpc)
}

// postRPC answers JSON-RPC over HTTP. As nodes do, it says 200 to whatever could be read as a request.
func (a *API) postRPC(w http.ResponseWriter, r *http.Request) {
	status, problem := jsonrpc.Screen(w, r, rpcBody)
	if status == http.StatusMethodNotAllowed {
		problem = jsonrpc.Errorf(jsonrpc.CodeInvalid, "POST a JSON-RPC request here, with Content-Type: application/json; "+
			"WebSocket is spoken at /v1/rpc")
	}
	if problem != nil {
		writeRPCError(w, status, problem)
		return
	}
	named := chainParam(r.URL.Query().Get("chain"))
	chain, err := named.read()
	if err != nil {
		a.failRPC(w, r, err)
		return
	}
	body, status, problem := jsonrpc.ReadBody(w, r, rpcBody)
	if problem != nil {
		writeRPCError(w, status, problem)
		return
	}
	req, problem := a.rpc.Parse(body)
	if problem != nil {
		writeRPCError(w, http.StatusOK, problem)
		return
	}
	// One call is paid for, and so nobody has all of the budget left.
	if f := a.access.charge(callerOf(r.Context()), min(len(req.Calls), a.access.Burst)-1); f != nil {
		a.access.metrics.refused.WithLabelValues(f.reason).Inc()
		f.answer(w, r)
		return
	}
	if text := r.Header.Get(minHeightHeader); text != "" && !a.awaitRPC(w, r, text, named) {
		return
	}
	view := a.rpc.View(r.Context(), chain)
	defer view.Close()
	if state, _ := view.Chain(); state != nil {
		w.Header().Set(heightHeader, formatUint(state.Head.Number))
	}
	writeRPC(w, http.StatusOK, ethrpc.Reply(r.Context(), req, view.Answer))
}

// awaitRPC is awaitHeight for JSON-RPC.
func (a *API) awaitRPC(w http.ResponseWriter, r *http.Request, text string, named chainParam) bool {
	height, err := a.reached(r.Context(), text, named)
	switch {
	case err == nil:
		return true
	case height == nil:
		a.failRPC(w, r, err)
		return false
	}
	w.Header().Set(heightHeader, formatUint(*height))
	w.Header().Set("Retry-After", "1")
	writeRPCError(w, http.StatusServiceUnavailable, jsonrpc.Errorf(jsonrpc.CodeNotFound, "%s", err))
	return false
}

// failRPC tells an error of the API's own.
func (a *API) failRPC(w http.ResponseWriter, r *http.Request, err error) {
	err = a.fail(r.Context(), err)
	status := http.StatusInternalServerError
	var shown interface{ GetStatus() int }
	if errors.As(err, &shown) {
		status = shown.GetStatus()
	}
	code := jsonrpc.CodeServer
	if status == http.StatusBadRequest {
		code = jsonrpc.CodeInvalid
	}
	writeRPCError(w, status, jsonrpc.Errorf(code, "%s", err))
}

func writeRPCError(w http.ResponseWriter, status int, problem *jsonrpc.Error) {
	writeRPC(w, status, jsonrpc.AppendAnswer(nil, nil, nil, jsonrpc.Failure(problem)))
}

// writeRPC writes an answer; to notifications there is none.
func writeRPC(w http.ResponseWriter, status int, body []byte) {
	if body == nil {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

// rpc is the refusal as JSON-RPC tells it.
func (f refusal) rpc() *jsonrpc.Error {
	code := jsonrpc.CodeServer
	if f.status == http.StatusTooManyRequests {
		code = jsonrpc.CodeLimit
	}
	return jsonrpc.Errorf(code, "%s", f.detail)
}
