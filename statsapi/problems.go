package statsapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"strconv"

	"github.com/danielgtaylor/huma/v2"
)

const problemType = "application/problem+json"

// notFound answers 404; the text names what was looked for.
func notFound(format string, args ...any) error {
	return huma.Error404NotFound(fmt.Sprintf(format, args...))
}

// badParameter answers 400 about one query parameter.
func badParameter(name, value, want string) error {
	return huma.Error400BadRequest(name+" "+want, &huma.ErrorDetail{
		Location: "query." + name, Value: clip(value), Message: want,
	})
}

// badHeader answers 400 about one header.
func badHeader(name, value, want string) error {
	return huma.Error400BadRequest(name+" "+want, &huma.ErrorDetail{
		Location: "header." + name, Value: clip(value), Message: want,
	})
}

// clip keeps an answer from growing with the nonsense that it quotes.
func clip(s string) string {
	const longest = 100
	if len(s) > longest {
		return s[:longest] + "…"
	}
	return s
}

// fail turns any error of a handler into one that may be shown: those made for it pass, all others are logged here and
// their text stays inside.
func (a *API) fail(ctx context.Context, err error) error {
	var shown huma.StatusError
	if errors.As(err, &shown) {
		return err
	}
	log := a.log.WithError(err).WithField("request", requestID(ctx))
	switch {
	case errors.Is(ctx.Err(), context.Canceled): // the client went away; nobody reads this
		return huma.Error503ServiceUnavailable("the request was cancelled")
	case errors.Is(err, context.DeadlineExceeded):
		log.Warn("the store did not answer in time")
		return huma.Error503ServiceUnavailable("the store did not answer in time")
	}
	log.Error("request failed")
	return huma.Error500InternalServerError("internal error")
}

// writeProblem answers a request that no described operation handles.
func writeProblem(w http.ResponseWriter, status int, detail string) {
	w.Header().Set("Content-Type", problemType)
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(huma.NewError(status, detail)) // the client is gone if this fails
}

// writeError answers err, which fail has made presentable.
func writeError(w http.ResponseWriter, err error) {
	status := http.StatusInternalServerError
	var shown huma.StatusError
	if errors.As(err, &shown) {
		status = shown.GetStatus()
	}
	writeProblem(w, status, err.Error())
}

// problems describes the given error responses and those that every operation may give.
func problems(r huma.Registry, codes ...int) map[string]*huma.Response {
	schema := r.Schema(reflect.TypeFor[huma.ErrorModel](), true, "Problem")
	out := map[string]*huma.Response{}
	always := []int{
		http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusTooManyRequests,
		http.StatusInternalServerError, http.StatusServiceUnavailable,
	}
	for _, code := range append(codes, always...) {
		out[strconv.Itoa(code)] = &huma.Response{
			Description: http.StatusText(code),
			Content:     map[string]*huma.MediaType{problemType: {Schema: schema}},
		}
	}
	return out
}
