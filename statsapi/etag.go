package statsapi

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"strings"
)

// tag answers 304 to who has the same answer already (RFC 9110, section 13.1.2). The tag is that of the bytes: an answer
// is made either way, only its way to the client is saved. It is weak, because compression may follow.
func tag(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		kept := &keptAnswer{ResponseWriter: w, status: http.StatusOK}
		next.ServeHTTP(kept, r)
		if kept.status == http.StatusOK {
			sum := sha256.Sum256(kept.body.Bytes())
			etag := `W/"` + base64.RawURLEncoding.EncodeToString(sum[:12]) + `"`
			w.Header().Set("Etag", etag)
			if matches(r.Header.Values("If-None-Match"), etag) {
				w.Header().Del("Content-Type")
				w.WriteHeader(http.StatusNotModified)
				return
			}
		}
		w.WriteHeader(kept.status)
		_, _ = w.Write(kept.body.Bytes()) // the client is gone if this fails
	})
}

// matches compares weakly: what follows W/ must be the same.
func matches(headers []string, etag string) bool {
	for _, header := range headers {
		for candidate := range strings.SplitSeq(header, ",") {
			candidate = strings.TrimSpace(candidate)
			if candidate == "*" || strings.TrimPrefix(candidate, "W/") == strings.TrimPrefix(etag, "W/") {
				return true
			}
		}
	}
	return false
}

// keptAnswer holds an answer back until all of it is known. The largest is one payload or one block's transactions.
type keptAnswer struct {
	http.ResponseWriter
	status int
	body   bytes.Buffer
}

func (k *keptAnswer) WriteHeader(status int) { k.status = status }

func (k *keptAnswer) Write(p []byte) (int, error) { return k.body.Write(p) }
