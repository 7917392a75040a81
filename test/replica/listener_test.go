package replica

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/firstseen/firstseen/internal/testenv"
)

// listener follows the live feed of an API from its first row on.
type listener struct {
	mu    sync.Mutex // guards what follows
	last  uint64     // the last row that came
	wrong error      // the first that was not the next
}

// listen follows an API until the test ends.
func listen(t *testing.T, api string) *listener {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, api+"/v1/stream?from=earliest", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %v", req.URL, err)
	}
	l := &listener{}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer resp.Body.Close()
		for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
			if text, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
				l.hear(text)
			}
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return l
}

func (l *listener) hear(text string) {
	var event struct {
		Type string
		Seq  uint64
	}
	err := json.Unmarshal([]byte(text), &event)
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil && (event.Type != "event" || event.Seq != l.last+1) {
		err = fmt.Errorf("after row %d came %s", l.last, text)
	}
	if l.wrong == nil {
		l.wrong = err
	}
	l.last = event.Seq
}

// heard waits until every row up to the writer's last has come, each once and in order.
func (l *listener) heard(s *site) {
	s.t.Helper()
	testenv.Eventually(s.t, func() error {
		want, err := s.standing(s.api)
		if err != nil {
			return err
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.wrong == nil && l.last != want.Seq {
			return fmt.Errorf("heard up to row %d of %d", l.last, want.Seq)
		}
		if l.wrong != nil {
			s.t.Error(l.wrong)
		}
		return nil
	})
}
