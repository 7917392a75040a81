package client

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

// A name that leads elsewhere is followed at the next attempt, and of many addresses each is the first at times.
func TestNamesAreLookedUpAndShuffledAtEachAttempt(t *testing.T) {
	t.Parallel()
	all := []string{"10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"}
	now := all
	var tried []string
	d := &dialer{servers: []string{"relay.example:9"}, rand: rand.Float64,
		lookup: func(context.Context, string) ([]string, error) { return now, nil },
		connect: func(_ context.Context, _, address string) (net.Conn, error) {
			tried = append(tried, address)
			return nil, errors.New("refused")
		}}
	first := map[string]int{}
	for range 400 {
		tried = nil
		_, _ = d.dial(t.Context(), "")
		if len(tried) != len(all) {
			t.Fatalf("tried %v", tried)
		}
		first[tried[0]]++
	}
	for _, a := range all { // 100 each but for chance: fewer than 40 is one in 10¹²
		if n := first[a+":9"]; n < 40 {
			t.Errorf("%s was the first %d times of 400", a, n)
		}
	}
	now, tried = []string{"10.9.9.9"}, nil
	if _, _ = d.dial(t.Context(), ""); len(tried) != 1 || tried[0] != "10.9.9.9:9" {
		t.Errorf("tried %v after the name changed", tried)
	}
}

func TestDeadAddressCostsThreeSeconds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		here, there := net.Pipe()
		defer there.Close()
		d := &dialer{servers: []string{"dead:1", "alive:2"}, rand: func() float64 { return 0.999 },
			lookup: func(_ context.Context, host string) ([]string, error) { return []string{host}, nil },
			connect: func(ctx context.Context, _, address string) (net.Conn, error) {
				if address == "alive:2" {
					return here, nil
				}
				<-ctx.Done()
				return nil, ctx.Err()
			}}
		began := time.Now()
		conn, err := d.dial(t.Context(), "")
		if took := time.Since(began); err != nil || took != dialEach {
			t.Errorf("%v after %s", err, took)
		} else {
			conn.Close()
		}
	})
}
