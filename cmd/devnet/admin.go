package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/firstseen/firstseen/internal/devnet"
)

// admin is the HTTP port through which tests and people break a running network.
type admin struct {
	network  *devnet.Net
	listener net.Listener
}

func newAdmin(ctx context.Context, address string, network *devnet.Net) (*admin, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen for admin: %w", err)
	}
	return &admin{network: network, listener: listener}, nil
}

// run serves until ctx ends.
func (a *admin) run(ctx context.Context) error {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /admin/fault", a.answer(a.fault))
	mux.HandleFunc("POST /admin/mine", a.answer(a.mine))
	mux.HandleFunc("POST /admin/reorg", a.answer(a.reorg))
	mux.HandleFunc("POST /admin/split", a.answer(a.split))
	server := &http.Server{Handler: mux, ReadTimeout: 10 * time.Second, WriteTimeout: time.Minute}
	stop := context.AfterFunc(ctx, func() { server.Close() })
	defer stop()
	if err := server.Serve(a.listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// answer runs an order and tells what the chain's head is afterwards, or what was wrong.
func (a *admin) answer(order func(*http.Request) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if err := order(r); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{"head": a.network.Head()}) // the caller may have gone
	}
}

func (a *admin) fault(r *http.Request) error {
	e, err := endpoint(a.network, r.FormValue("endpoint"))
	if err != nil {
		return err
	}
	faults, err := devnet.ParseFaults(r.FormValue("fault"))
	if err != nil {
		return err
	}
	e.Set(faults)
	return nil
}

func (a *admin) mine(r *http.Request) error {
	blocks, err := strconv.ParseUint(r.FormValue("blocks"), 10, 16)
	if err != nil {
		return fmt.Errorf("blocks: %w", err)
	}
	return a.network.Mine(r.Context(), int(blocks))
}

func (a *admin) reorg(r *http.Request) error {
	depth, err := depthOf(r)
	if err != nil {
		return err
	}
	return a.network.Reorg(r.Context(), depth)
}

func (a *admin) split(r *http.Request) error {
	e, err := endpoint(a.network, r.FormValue("endpoint"))
	if err != nil {
		return err
	}
	depth, err := depthOf(r)
	if err != nil {
		return err
	}
	return a.network.Split(r.Context(), e, depth)
}

func depthOf(r *http.Request) (uint64, error) {
	depth, err := strconv.ParseUint(r.FormValue("depth"), 10, 16)
	if err != nil {
		return 0, fmt.Errorf("depth: %w", err)
	}
	return depth, nil
}
