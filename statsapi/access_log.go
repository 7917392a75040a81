package statsapi

import (
	"cmp"
	"net/http"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"
	"github.com/sirupsen/logrus"
)

// maxLoggedPath is how much of a path goes into a line, in bytes.
const maxLoggedPath = 200

// line logs a request that was answered. Neither its query nor its headers go into the line, since people put secrets
// there.
func (a *access) line(r *http.Request, w middleware.WrapResponseWriter, who caller, start time.Time) {
	path := r.URL.EscapedPath()
	if strings.Contains(path, keyPrefix) {
		path = "(hidden)"
	}
	fields := logrus.Fields{
		"method": clip(r.Method), "path": path[:min(len(path), maxLoggedPath)], "status": cmp.Or(w.Status(), http.StatusOK),
		"bytes": w.BytesWritten(), "seconds": time.Since(start).Seconds(), "client": who.addr.String(),
		"request": requestID(r.Context()),
	}
	if who.key != nil {
		fields["key"] = who.key.token.ID()
	}
	if route := chi.RouteContext(r.Context()).RoutePattern(); route != "" {
		fields["route"] = route
	}
	a.log.WithFields(fields).Info("request")
}
