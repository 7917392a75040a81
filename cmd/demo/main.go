// Command demo runs all of firstseen in one process against a small real chain: three nodes, two observers, two
// servers, one SQLite file and the stats API. It prints a line for each block and, at its end, what became of them.
//
// DEMO_HTTP sets where the stats API listens (127.0.0.1:8080), DEMO_SECONDS ends the demo by itself.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"
)

func main() {
	// A reader that goes away, as in `| head`, ends the demo in good order, too.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGPIPE)
	code := demo(ctx)
	stop()
	os.Exit(code)
}

func demo(ctx context.Context) int {
	opts, err := fromEnvironment()
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		return 2
	}
	result, err := run(ctx, opts)
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		return 1
	}
	if err := json.NewEncoder(os.Stdout).Encode(result); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		return 1
	}
	if result.Lost > 0 {
		return 1
	}
	return 0
}

func fromEnvironment() (options, error) {
	opts := options{http: "127.0.0.1:8080", period: time.Second, out: os.Stdout}
	if addr := os.Getenv("DEMO_HTTP"); addr != "" {
		opts.http = addr
	}
	if text := os.Getenv("DEMO_SECONDS"); text != "" {
		seconds, err := strconv.ParseFloat(text, 64)
		if err != nil || seconds <= 0 {
			return options{}, fmt.Errorf("DEMO_SECONDS=%q: use a number of seconds above 0", text)
		}
		opts.lasts = time.Duration(seconds * float64(time.Second))
	}
	return opts, nil
}
