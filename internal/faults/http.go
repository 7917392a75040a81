package faults

import (
	"io"
	"net/http"
	"strconv"
)

// Handler answers requests with fault until budget is used up, then with next.
func Handler(next http.Handler, budget *Budget, fault http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if budget.take() {
			fault.ServeHTTP(w, r)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// Answer is a fault that answers every request alike: a 429, or a 200 that holds HTML where JSON is due.
func Answer(code int, contentType, body string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		w.WriteHeader(code)
		_, _ = io.WriteString(w, body)
	})
}

// Truncate is a fault that announces the whole of body, sends its first n bytes and cuts the connection.
func Truncate(body string, n int) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		_, _ = io.WriteString(w, body[:n])
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})
}

// Hang is a fault that takes a request and says nothing until the client gives up.
func Hang() http.Handler {
	return http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // the server notices a client that left only once the body is read
		<-r.Context().Done()
	})
}
