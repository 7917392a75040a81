package objects

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/firstseen/firstseen/internal/testenv"
)

const hush = "wJalrXUtnFEMIhush" // the secret that no error may tell

// faulty is an S3 server with one object that answers as its script says, then honestly, or with no regard to
// conditions. What a real server does right is tested against one.
type faulty struct {
	mu     sync.Mutex
	script []func(w http.ResponseWriter, r *http.Request) (done bool) // guarded by mu: one for each request
	served int                                                        // guarded by mu: requests
	body   []byte                                                     // guarded by mu
	rash   bool                                                       // overwrites whatever the conditions
}

func (f *faulty) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	var step func(http.ResponseWriter, *http.Request) bool
	if f.served < len(f.script) {
		step = f.script[f.served]
	}
	f.served++
	f.mu.Unlock()
	if step != nil && step(w, r) {
		return
	}
	f.honest(w, r)
}

func (f *faulty) honest(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body) // of a test's own request
	f.mu.Lock()
	defer f.mu.Unlock()
	tag := fmt.Sprintf("%q", tagOf(f.body))
	switch r.Method {
	case http.MethodPut:
		match := r.Header.Get("If-Match")
		if !f.rash && (f.body != nil && r.Header.Get("If-None-Match") == "*" || match != "" && match != tag) {
			answer(w, http.StatusPreconditionFailed, "PreconditionFailed")
			return
		}
		f.body = body
		w.Header().Set("ETag", fmt.Sprintf("%q", tagOf(body)))
	case http.MethodGet:
		w.Header().Set("ETag", tag)
		_, _ = w.Write(f.body)
	case http.MethodDelete:
		f.body = nil
		w.WriteHeader(http.StatusNoContent)
	}
}

func answer(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	fmt.Fprintf(w, "<Error><Code>%s</Code><Message>because</Message></Error>", code)
}

func answers(status int, code string) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, _ *http.Request) bool {
		answer(w, status, code)
		return true
	}
}

// cut ends the connection in the middle of the answer.
func cut(w http.ResponseWriter, _ *http.Request) bool {
	w.Header().Set("Content-Length", "100")
	_, _ = w.Write([]byte("half"))
	panic(http.ErrAbortHandler)
}

// stored does what it was asked, and loses the answer.
func (f *faulty) stored(w http.ResponseWriter, r *http.Request) bool {
	f.honest(httptest.NewRecorder(), r)
	return cut(w, r)
}

func (f *faulty) serve(t *testing.T) Store {
	t.Helper()
	server := httptest.NewServer(f)
	t.Cleanup(server.Close)
	return opened(t, server.URL)
}

func opened(t *testing.T, endpoint string) Store {
	t.Helper()
	return open(t, "s3://bucket/prefix?endpoint="+endpoint, Options{Key: "key", Secret: hush, Limit: 100, Timeout: 5 * time.Second})
}

// wantTold holds an error against what each has to name, and what none may.
func wantTold(t *testing.T, err error, words ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("error %q does not name %q", err, word)
		}
	}
	if text := err.Error(); strings.Contains(text, hush) || strings.Contains(text, "Signature") {
		t.Errorf("error %q tells secrets", err)
	}
}

type script = []func(http.ResponseWriter, *http.Request) bool

func TestFaultsThatPassAreRetried(t *testing.T) {
	t.Parallel()
	overloaded, racing := answers(503, "SlowDown"), answers(409, "ConditionalRequestConflict")
	for name, faults := range map[string]script{
		"overloaded": {overloaded, overloaded}, "internal error": {answers(500, "InternalError")},
		"racing": {racing, racing}, "cut": {cut}, "cut twice": {cut, cut},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := (&faulty{script: faults}).serve(t)
			create(t, s, "k")
			s = (&faulty{script: faults, body: []byte("whole")}).serve(t)
			wantBody(t, s, "k", "whole")
		})
	}
}

func TestFaultsThatStayAreTold(t *testing.T) {
	t.Parallel()
	denied, overloaded := answers(403, "AccessDenied"), answers(503, "SlowDown")
	for name, test := range map[string]struct {
		faults   script
		words    []string
		requests int
	}{
		"overloaded": {script{overloaded, overloaded, overloaded, overloaded}, []string{"503", "SlowDown", "because"}, 3},
		"denied":     {script{denied}, []string{"403", "AccessDenied", "s3:ListBucket"}, 1},
		"no bucket":  {script{answers(404, "NoSuchBucket")}, []string{"404", "NoSuchBucket"}, 1},
		"cut":        {script{cut, cut, cut, cut}, []string{"EOF"}, 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := &faulty{script: test.faults}
			s := f.serve(t)
			_, _, err := s.Get(t.Context(), "some/key")
			wantTold(t, err, append(test.words, "some/key", "s3://bucket/prefix at http://127.0.0.1:")...)
			if outcome(err) != "failed" {
				t.Errorf("%v is taken for an outcome of its own: %s", err, outcome(err))
			}
			f.mu.Lock()
			defer f.mu.Unlock()
			if f.served != test.requests {
				t.Errorf("%d requests, want %d", f.served, test.requests)
			}
		})
	}
}

func TestLastingRaceIsAConflict(t *testing.T) {
	t.Parallel()
	racing := answers(409, "ConditionalRequestConflict")
	always := slices.Repeat(script{racing}, 20)
	wantError(t, (&faulty{script: always}).serve(t).Create(t.Context(), "k", []byte("1")), ErrExists)
	_, err := (&faulty{script: always}).serve(t).Replace(t.Context(), "k", []byte("1"), `"tag"`)
	wantError(t, err, ErrConflict)
}

func TestOwnWriteIsKnownAgainAfterALostAnswer(t *testing.T) {
	t.Parallel()
	f := &faulty{}
	f.script = script{f.stored}
	s := f.serve(t)
	create(t, s, "k")
	f = &faulty{body: []byte("old")}
	f.script = script{f.stored}
	s = f.serve(t)
	tag, err := s.Replace(t.Context(), "k", []byte("new"), fmt.Sprintf("%q", tagOf([]byte("old"))))
	if err != nil {
		t.Fatal(err)
	}
	if now := wantBody(t, s, "k", "new"); now != tag {
		t.Errorf("the tag returned is %s, that of the object %s", tag, now)
	}
	f = &faulty{body: []byte("another's")}
	f.script = script{answers(503, "SlowDown")}
	wantError(t, f.serve(t).Create(t.Context(), "k", []byte("ours")), ErrExists)
}

func TestServerThatHangsIsLeft(t *testing.T) {
	t.Parallel()
	hang := func(_ http.ResponseWriter, r *http.Request) bool {
		<-r.Context().Done()
		return true
	}
	server := httptest.NewServer(&faulty{script: script{hang, hang, hang, hang}})
	t.Cleanup(server.Close)
	s := open(t, "s3://bucket?endpoint="+server.URL, Options{Key: "key", Secret: hush, Timeout: 60 * time.Millisecond})
	_, _, err := s.Get(t.Context(), "k")
	wantTold(t, err, "s3://bucket at "+server.URL)
	if outcome(err) != "failed" {
		t.Errorf("outcome of %v is %s", err, outcome(err))
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, _, err = s.Get(ctx, "k")
	wantError(t, err, context.Canceled)
}

func TestServerThatIsDownIsNamed(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	endpoint := "http://" + listener.Addr().String()
	listener.Close()
	s := opened(t, endpoint)
	_, err = s.List(t.Context(), "main/", "", 1)
	wantTold(t, err, "main/", "s3://bucket/prefix at "+endpoint, "refused")
	wantTold(t, Prove(t.Context(), s), endpoint)
}

func TestAnswerLargerThanAllowedIsNotRead(t *testing.T) {
	t.Parallel()
	unannounced := func(w http.ResponseWriter, _ *http.Request) bool {
		for range 200 {
			_, _ = w.Write([]byte("x"))
			w.(http.Flusher).Flush()
		}
		return true
	}
	_, _, err := (&faulty{script: script{unannounced}}).serve(t).Get(t.Context(), "k")
	wantError(t, err, ErrTooLarge)
}

func TestRashStoreIsNoStoreForWriters(t *testing.T) {
	t.Parallel()
	s := (&faulty{rash: true}).serve(t)
	wantError(t, Prove(t.Context(), s), ErrUnconditional, "127.0.0.1", "bucket")
	s = (&faulty{script: script{answers(501, "NotImplemented"), answers(501, "NotImplemented")}}).serve(t)
	wantError(t, Prove(t.Context(), s), ErrUnconditional)
	if err := Prove(t.Context(), (&faulty{}).serve(t)); err != nil {
		t.Error(err)
	}
}

func TestWrongSecretIsToldWithoutIt(t *testing.T) {
	t.Parallel()
	s := open(t, testenv.S3(t), Options{Key: testenv.S3Key(), Secret: hush})
	_, _, err := s.Get(t.Context(), "k")
	if err == nil || strings.Contains(err.Error(), hush) || !strings.Contains(err.Error(), "403") {
		t.Errorf("error is %v", err)
	}
}
