package e2e

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/firstseen/firstseen/netstring"
	"github.com/firstseen/firstseen/schema"
)

func get(t *testing.T, url string) string {
	t.Helper()
	code, body, err := fetch(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	if code != http.StatusOK {
		t.Fatalf("GET %s: %d: %s", url, code, body)
	}
	return string(body)
}

// sendBare does what an original client does: connect, write one netstring, close. It reads to the end first, so that
// a byte written back or a reset shows.
func sendBare(addr string, payload []byte) error {
	conn, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		return err
	}
	if _, err := conn.Write(netstring.Append(nil, payload)); err != nil {
		return err
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		return err
	}
	back, err := io.ReadAll(conn)
	if err != nil {
		return fmt.Errorf("read to the end: %w", err)
	}
	if len(back) > 0 {
		return fmt.Errorf("server wrote %q", back)
	}
	return nil
}

// However many original clients send a payload to whichever server, it is stored once and nobody is written to.
func TestBareClientsAreStoredOnceAndNeverAnswered(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	addrs := []string{f.servers[0].Addr(t, "server"), f.servers[1].Addr(t, "server")}
	const payloads, senders = 20, 6
	var wg sync.WaitGroup
	for sender := range senders {
		wg.Go(func() {
			for i := range payloads {
				if err := sendBare(addrs[(sender+i)%2], bare(i)); err != nil {
					t.Errorf("sender %d, payload %d: %v", sender, i, err)
				}
			}
		})
	}
	wg.Wait()
	// A bare connection is closed when its frames are read; their commit may come after.
	settled := func(what string, want uint64, query string) {
		t.Helper()
		eventually(t, 20*time.Second, func() error {
			got, err := f.count(t.Context(), query)
			if err == nil && got != want {
				err = fmt.Errorf("%s: %d, want %d", what, got, want)
			}
			return err
		})
	}
	settled("frames counted for their senders", payloads*senders, "SELECT SUM(count) FROM clients")
	settled("rows", payloads, "SELECT COUNT(*) FROM records WHERE chain = 0")
	for i := range payloads {
		if got := get(t, f.api+"/_cat/hashes/"+string(schema.PayloadKey(bare(i)))); got != string(bare(i)) {
			t.Errorf("payload %d comes back as %q", i, got)
		}
	}
}

func bare(i int) []byte {
	return fmt.Appendf(nil, "<html>\n    <p>%d</p>\n</html>", 19_000_000+i)
}
