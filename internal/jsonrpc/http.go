package jsonrpc

import (
	"errors"
	"io"
	"mime"
	"net/http"
)

// Screen refuses what is no plain POST of JSON of at most so many bytes, before its body is read, with the HTTP status to
// answer with. The error is nil where there is nothing to refuse.
func Screen(w http.ResponseWriter, r *http.Request, most int64) (status int, problem *Error) {
	switch {
	case r.Method != http.MethodPost:
		w.Header().Set("Allow", http.MethodPost)
		return http.StatusMethodNotAllowed, Errorf(CodeInvalid, "JSON-RPC requests are POSTed")
	case len(r.TransferEncoding) > 0:
		// net/http drops a Content-Length that stands beside a transfer coding, so that here nobody can tell whether
		// another on the way has read it. The connection's place between two requests is not to be trusted then.
		w.Header().Set("Connection", "close")
		return http.StatusBadRequest, Errorf(CodeInvalid, "send the body with a Content-Length, not in chunks")
	case r.Header.Get("Content-Encoding") != "":
		return http.StatusUnsupportedMediaType, Errorf(CodeInvalid, "compressed requests are not read")
	case r.ContentLength > most:
		w.Header().Set("Connection", "close")
		return http.StatusRequestEntityTooLarge, Errorf(CodeInvalid, "request too large")
	}
	// A browser asks before it sends this type elsewhere, so that no foreign page can use a server behind its user.
	if kind := r.Header.Get("Content-Type"); kind != "application/json" {
		if kind, _, err := mime.ParseMediaType(kind); err != nil || kind != "application/json" {
			return http.StatusUnsupportedMediaType, Errorf(CodeInvalid, "Content-Type must be application/json")
		}
	}
	return 0, nil
}

// ReadBody reads the body of a request that Screen let through; status and error are as Screen's.
func ReadBody(w http.ResponseWriter, r *http.Request, most int64) (body []byte, status int, problem *Error) {
	var err error
	if r.ContentLength >= 0 {
		body = make([]byte, r.ContentLength)
		_, err = io.ReadFull(r.Body, body)
	} else { // HTTP/2, whose frames say where it ends
		body, err = io.ReadAll(http.MaxBytesReader(w, r.Body, most))
	}
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return nil, http.StatusRequestEntityTooLarge, Errorf(CodeInvalid, "request too large")
	case err != nil:
		return nil, http.StatusBadRequest, Errorf(CodeParse, "the body did not come whole")
	}
	return body, 0, nil
}
