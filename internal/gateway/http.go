package gateway

import (
	"context"
	"io"
	"math"
	"net/http"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/firstseen/firstseen/internal/jsonrpc"
)

// Headers of requests and responses.
const (
	minHeightHeader = "X-Min-Height" // the node that answers must have this block: decimal, or hex behind 0x
	heightHeader    = "X-Height"     // the newest block, as this answer means it: decimal
	nodeHeader      = "X-Node"       // whose answer it is; several, with commas, for a batch
)

// ServeHTTP answers one HTTP request.
func (g *Gateway) serveHTTP(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	status := http.StatusOK
	defer func() {
		if v := recover(); v != nil {
			if v == http.ErrAbortHandler { //nolint:errorlint // net/http compares it so, too
				panic(v)
			}
			g.log.Errorf("panic: %v\n%s", v, debug.Stack())
			status = http.StatusInternalServerError
			g.refuse(w, status, jsonrpc.Errorf(jsonrpc.CodeInternal, "internal error"))
		}
		g.metrics.request(status, time.Since(start))
	}()
	w.Header()["X-Content-Type-Options"] = nosniff
	switch r.URL.Path {
	case "/":
		status = g.post(w, r)
	case "/livez":
		status = plain(w, http.StatusOK, "ok")
	case "/readyz", "/healthz":
		status = g.readyz(w, r)
	default:
		status = plain(w, http.StatusNotFound, "JSON-RPC is served at /")
	}
}

var (
	nosniff  = []string{"nosniff"}          // shared between responses, which only read it
	jsonType = []string{"application/json"} // likewise
)

func plain(w http.ResponseWriter, status int, text string) int {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text+"\n")
	return status
}

func (g *Gateway) readyz(w http.ResponseWriter, r *http.Request) int {
	if err := g.Ready(r.Context()); err != nil {
		return plain(w, http.StatusServiceUnavailable, err.Error())
	}
	return plain(w, http.StatusOK, "ok")
}

// post answers a JSON-RPC request over HTTP and returns the status.
func (g *Gateway) post(w http.ResponseWriter, r *http.Request) int {
	if status, problem := jsonrpc.Screen(w, r, g.opts.MaxBody); problem != nil {
		return g.refuse(w, status, problem)
	}
	who, err := g.identify(r)
	if err != nil {
		return g.refuse(w, http.StatusUnauthorized, jsonrpc.Errorf(jsonrpc.CodeServer, "%s", err))
	}
	least, ok := minHeight(r.Header.Get(minHeightHeader))
	if !ok {
		return g.refuse(w, http.StatusBadRequest, jsonrpc.Errorf(jsonrpc.CodeInvalid, "%s is not a height", minHeightHeader))
	}
	body, status, problem := jsonrpc.ReadBody(w, r, g.opts.MaxBody)
	if problem != nil {
		return g.refuse(w, status, problem)
	}
	req, problem := jsonrpc.Parse(body, g.opts.MaxBatch)
	if problem != nil {
		return g.refuse(w, http.StatusOK, problem)
	}
	if wait, ok := g.spend(who, len(req.Calls)); !ok {
		g.metrics.limited.Inc()
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(wait.Seconds()))))
		return g.refuse(w, http.StatusTooManyRequests, jsonrpc.Errorf(jsonrpc.CodeLimit, "too many requests"))
	}
	mem := g.newAllowance()
	defer mem.release()
	v := g.look(who.id, least)
	answers := g.answerAll(r.Context(), req, &v, mem)
	return g.reply(w, req, answers, v.head)
}

func minHeight(header string) (uint64, bool) {
	if header == "" {
		return 0, true
	}
	digits, base := header, 10
	if hex, ok := strings.CutPrefix(header, "0x"); ok {
		digits, base = hex, 16
	}
	n, err := strconv.ParseUint(digits, base, 63)
	return n, err == nil
}

// refuse answers a whole request with one error.
func (g *Gateway) refuse(w http.ResponseWriter, status int, problem *jsonrpc.Error) int {
	g.metrics.refused(problem.Code)
	w.Header()["Content-Type"] = jsonType
	w.WriteHeader(status)
	_, _ = w.Write(append(sorry(problem.Code, problem.Message).appendTo(nil, nil), '\n')) //nolint:gosec // JSON, nosniff
	return status
}

// atOnce is how many calls of one batch are under way at the same time.
const atOnce = 8

// answerAll answers every call of a request; what stands for notifications is to be ignored.
func (g *Gateway) answerAll(ctx context.Context, req jsonrpc.Request, v *view, mem *allowance) []answer {
	answers := make([]answer, len(req.Calls))
	if len(req.Calls) == 1 {
		answers[0] = g.answer(ctx, &call{Call: &req.Calls[0]}, v, mem)
		return answers
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	next := make(chan int)
	defer close(next)
	for range min(atOnce, len(req.Calls)) {
		wg.Go(func() {
			for i := range next {
				answers[i] = g.answer(ctx, &call{Call: &req.Calls[i]}, v, mem)
			}
		})
	}
	for i := range req.Calls {
		next <- i
	}
	return answers
}

// answer answers one call.
func (g *Gateway) answer(ctx context.Context, c *call, v *view, mem *allowance) answer {
	if c.Bad == nil {
		if c.method = g.allowed[c.Method]; c.method == nil {
			c.Refuse(jsonrpc.CodeNoMethod, "the method "+jsonrpc.Clip(c.Method)+" does not exist or is not allowed")
		}
	}
	if c.Bad != nil {
		g.metrics.refused(c.Bad.Code)
		return sorry(c.Bad.Code, c.Bad.Message)
	}
	c.pinned = c.pin(v.head)
	atHead := c.class == local || c.pinned
	height := max(v.told, v.least)
	if atHead {
		height = v.head
	}
	order, failure := g.fit(ctx, height, atHead || v.least > 0)
	if failure != nil {
		return *failure
	}
	if atHead {
		g.tell(v.caller, height)
	}
	if c.class == local { // eth_blockNumber
		return answer{node: order[0].name, result: []byte(`"` + jsonrpc.Quantity(height) + `"`)}
	}
	a := g.forward(ctx, c, order, mem)
	g.learn(v.caller, c, a, order)
	return a
}

// reply writes the answers and returns the status: 200 for anything that is an answer to JSON-RPC, an error included.
func (g *Gateway) reply(w http.ResponseWriter, req jsonrpc.Request, answers []answer, head uint64) int {
	status := http.StatusOK
	if a := &answers[0]; !req.Batch && a.status != 0 {
		status = a.status
		if a.newest != 0 {
			head = a.newest
		}
	}
	body, names := render(req, answers)
	h := w.Header()
	if len(names) > 0 {
		h[nodeHeader] = []string{strings.Join(names, ", ")}
	}
	h[heightHeader] = []string{strconv.FormatUint(head, 10)}
	if len(body) == 0 { // notifications only (JSON-RPC 2.0, section 6)
		w.WriteHeader(http.StatusNoContent)
		return http.StatusNoContent
	}
	h["Content-Type"] = jsonType
	h["Content-Length"] = []string{strconv.Itoa(len(body))}
	w.WriteHeader(status)
	_, _ = w.Write(body) //nolint:gosec // JSON, nosniff
	return status
}

// render writes the answers to all but notifications, and tells whose they are.
func render(req jsonrpc.Request, answers []answer) (body []byte, names []string) {
	size := 64
	for i := range answers {
		size += answers[i].size() + len(req.Calls[i].ID) + 64
	}
	body = make([]byte, 0, size)
	for i := range answers {
		if name := answers[i].node; name != "" && !slices.Contains(names, name) {
			names = append(names, name)
		}
		if req.Calls[i].ID == nil {
			continue
		}
		if len(body) > 0 {
			body = append(body, ',')
		} else if req.Batch {
			body = append(body, '[')
		}
		body = answers[i].appendTo(body, req.Calls[i].ID)
	}
	if len(body) > 0 && req.Batch {
		body = append(body, ']')
	}
	return body, names
}
