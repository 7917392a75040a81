package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/firstseen/firstseen/test/process"
)

// binary is the production binary, built once for all tests of this package by TestMain.
var binary process.Binary

func TestMain(m *testing.M) {
	_ = mysql.SetLogger(&mysql.NopLogger{}) // databases come and go here
	os.Exit(process.Main(m, func(b process.Binary) { binary = b }))
}

// start runs the binary until the test ends. What it logs is shown if the test fails.
func start(t *testing.T, args ...string) *process.Process {
	t.Helper()
	return binary.Start(t, nil, args...)
}

// once runs the binary to its end and returns what it printed and its exit code.
func once(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	return binary.Once(t, nil, args...)
}

// eventually tries until it succeeds or the time is up, and then fails with the last error.
func eventually(t *testing.T, within time.Duration, try func() error) {
	t.Helper()
	deadline := time.NewTimer(within)
	defer deadline.Stop()
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for {
		err := try()
		if err == nil {
			return
		}
		select {
		case <-deadline.C:
			t.Fatalf("not within %s: %v", within, err)
		case <-again.C:
		}
	}
}

// fetch asks over HTTP and returns status code and body.
func fetch(ctx context.Context, url string) (int, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp.StatusCode, body, err
}

// getJSON asks the stats API; a status other than 200 is an error.
func getJSON(ctx context.Context, url string, into any) error {
	code, body, err := fetch(ctx, url)
	if err != nil {
		return err
	}
	if code != http.StatusOK {
		return fmt.Errorf("GET %s: %d: %s", url, code, body)
	}
	return json.Unmarshal(body, into)
}
