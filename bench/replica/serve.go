package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/firstseen/firstseen/internal/store"
	"github.com/firstseen/firstseen/statsapi"
)

// serveWord, as the first argument, makes this program a stats API: a process of its own, as each replica is one.
const serveWord = "serve"

// serve answers from a database, and tells its address, until its input ends.
func serve(ctx context.Context, dsn string) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	s, err := store.Open(ctx, store.Options{DSN: dsn})
	if err != nil {
		return err
	}
	defer func() { _ = s.Close() }()
	api, err := statsapi.New(ctx, statsapi.Options{Addr: "127.0.0.1:0", Store: s})
	if err != nil {
		return err
	}
	var running errgroup.Group
	running.Go(func() error { return api.Run(ctx) })
	fmt.Println(api.Addr())
	_, _ = io.Copy(io.Discard, os.Stdin)
	stop()
	return running.Wait()
}

// served is a process that serves.
type served struct {
	cmd  *exec.Cmd
	in   io.Closer
	addr string
}

func start(ctx context.Context, dsn string) (*served, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, serveWord, dsn)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		_ = in.Close()
		_ = cmd.Wait()
		return nil, fmt.Errorf("a stats API did not start: %w", err)
	}
	return &served{cmd, in, strings.TrimSpace(line)}, nil
}

func (s *served) close() {
	_ = s.in.Close()
	_ = s.cmd.Wait()
}
