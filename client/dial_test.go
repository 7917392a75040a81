package client

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"
)

func TestDialTriesEveryAddressAndTheAvoidedLast(t *testing.T) {
	t.Parallel()
	var tried []string
	d := &dialer{servers: []string{"a:1", "b:2", "gone:3"}, rand: func() float64 { return 0 },
		lookup: func(_ context.Context, host string) ([]string, error) {
			switch host {
			case "a":
				return []string{"10.0.0.1", "10.0.0.2"}, nil
			case "b":
				return []string{"::1"}, nil
			}
			return nil, errors.New("no such host")
		},
		connect: func(ctx context.Context, _, address string) (net.Conn, error) {
			if left, ok := ctx.Deadline(); !ok || time.Until(left) > dialEach {
				t.Error("no deadline for this address")
			}
			tried = append(tried, address)
			return nil, errors.New("refused " + address)
		}}
	_, err := d.dial(t.Context(), "10.0.0.2:1")
	if len(tried) != 3 || tried[2] != "10.0.0.2:1" {
		t.Errorf("tried %v", tried)
	}
	for _, part := range []string{"no such host", "refused [::1]:2", "refused 10.0.0.1:1"} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%v does not mention %q", err, part)
		}
	}
}

func TestBackoffStaysWithinItsBounds(t *testing.T) {
	t.Parallel()
	b := backoff{first: time.Second, most: 10 * time.Second, rand: func() float64 { return 0.5 }}
	for _, want := range []float64{0.5, 1, 2, 4, 5, 5} {
		if got := b.next().Seconds(); got != want {
			t.Errorf("%v s, want %v s", got, want)
		}
	}
	b.attempts = 1000
	if got := b.next(); got != 5*time.Second {
		t.Error(got)
	}
}
