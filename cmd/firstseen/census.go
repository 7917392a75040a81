package main

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/firstseen/firstseen/internal/presence"
)

// A stats process that is asked for strong counts asks each server on its admin port, which the server's beat names. It
// proves that it knows the admin token without showing it: whoever can write beats could name a port of their own, and a
// token that is sent there would be theirs. See docs/adr/0011.

const (
	censusPath   = "/v1/connections"
	censusScheme = "Firstseen-Census" // of Authorization: the time in Unix seconds, a slash, and the MAC in hex
	censusClocks = 5 * time.Minute    // by how much two machines' clocks may differ
	censusBytes  = 8 << 20            // of one answer, which may name as many clients as a server holds connections
)

// censusMAC is over all that makes a request this one: the server asked, its present start, and the time.
func censusMAC(token, server, boot, at string) string {
	mac := hmac.New(sha256.New, []byte(token))
	fmt.Fprintf(mac, "firstseen census\n%s\n%s\n%s", server, boot, at)
	return hex.EncodeToString(mac.Sum(nil))
}

// tellCensus answers who proves to know the token.
func tellCensus(token string, census func() presence.Census, now func() time.Time) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		switch {
		case census == nil:
			http.Error(w, "this process is no server", http.StatusNotFound)
			return
		case token == "":
			http.Error(w, "this process has no admin token", http.StatusForbidden)
			return
		}
		c := census()
		proof, ok := strings.CutPrefix(r.Header.Get("Authorization"), censusScheme+" ")
		at, mac, ok2 := strings.Cut(proof, "/")
		if !ok || !ok2 || !hmac.Equal([]byte(mac), []byte(censusMAC(token, c.Server, c.Boot, at))) {
			w.Header().Set("WWW-Authenticate", censusScheme)
			http.Error(w, "the admin token is another, or meant for another start of this server", http.StatusUnauthorized)
			return
		}
		if seconds, err := strconv.ParseInt(at, 10, 64); err != nil || now().Sub(time.Unix(seconds, 0)).Abs() > censusClocks {
			http.Error(w, "the clocks differ by more than "+censusClocks.String(), http.StatusUnauthorized)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(c) // who asked is gone if this fails
	}
}

// censusAsker asks servers for their census: one in this process directly, others on their admin port.
type censusAsker struct {
	token string
	local func() presence.Census // nil: no server runs in this process
	now   func() time.Time
}

// Ask implements presence.Asker.
func (a *censusAsker) Ask(ctx context.Context, s presence.Server) (presence.Census, error) {
	if a.local != nil {
		if c := a.local(); c.Server == s.Server && c.Boot == s.Boot {
			return c, nil
		}
	}
	switch {
	case s.Ask == "":
		return presence.Census{}, errors.New("it has no admin port to be asked at (--admin)")
	case a.token == "":
		return presence.Census{}, errors.New("this process has no admin token to ask with (FIRSTSEEN_ADMIN_TOKEN)")
	}
	return a.request(ctx, s)
}

func (a *censusAsker) request(ctx context.Context, s presence.Server) (presence.Census, error) {
	target := url.URL{Scheme: "http", Host: s.Ask, Path: censusPath}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target.String(), http.NoBody)
	if err != nil {
		return presence.Census{}, errors.New("the address of its admin port makes no sense")
	}
	at := strconv.FormatInt(a.now().Unix(), 10)
	req.Header.Set("Authorization", censusScheme+" "+at+"/"+censusMAC(a.token, s.Server, s.Boot, at))
	resp, err := direct.Do(req)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return presence.Census{}, fmt.Errorf("its admin port at %s does not answer in time", s.Ask)
	case err != nil:
		return presence.Census{}, fmt.Errorf("its admin port at %s cannot be reached", s.Ask)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 200)) // what cannot be read is left out
		return presence.Census{}, fmt.Errorf("its admin port at %s answers %d: %s", s.Ask, resp.StatusCode,
			shown(strings.TrimSpace(string(text))))
	}
	var c presence.Census
	if err := json.NewDecoder(io.LimitReader(resp.Body, censusBytes)).Decode(&c); err != nil {
		return presence.Census{}, fmt.Errorf("its admin port at %s does not answer as a server does", s.Ask)
	}
	if c.Server != s.Server || c.Boot != s.Boot || c.Count < 0 {
		return presence.Census{}, fmt.Errorf("at %s another server answers", s.Ask)
	}
	return c, nil
}

// askAddress is where others reach an admin port: where it listens, or, where that is every address of this machine, by
// the machine's name.
func askAddress(bound net.Addr) string {
	tcp, ok := bound.(*net.TCPAddr)
	if !ok {
		return ""
	}
	if !tcp.IP.IsUnspecified() {
		return tcp.String()
	}
	host, err := os.Hostname()
	if err != nil {
		return ""
	}
	return net.JoinHostPort(host, strconv.Itoa(tcp.Port))
}

// newBoot identifies one start of a server: a random UUID (RFC 9562, version 4), as the original connection-count server
// showed.
func newBoot() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
