package server_test

import (
	"context"
	"fmt"
	"io"
	"net"

	"github.com/firstseen/firstseen/netstring"
	"github.com/firstseen/firstseen/schema"
	"github.com/firstseen/firstseen/server"
)

// shelf is the smallest store there is: it prints what it is offered.
type shelf struct{}

func (shelf) Offer(_ context.Context, o *schema.Offer, done func(schema.Settlement)) error {
	fmt.Printf("%s %s\n", o.Key[:8], o.Payload)
	done(schema.Settlement{Outcome: schema.First})
	return nil
}

func (shelf) Report(context.Context, string, schema.Report) error { return nil }

func (shelf) Positions(context.Context, []uint64) ([]schema.Position, error) { return nil, nil }

func Example() {
	srv, err := server.New(server.Options{Addr: "127.0.0.1:0", Name: "relay-1", Store: shelf{}})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	ended := make(chan error)
	go func() { ended <- srv.Run(ctx) }()

	conn, err := net.Dial("tcp", srv.Addr().String())
	if err != nil {
		fmt.Println(err)
		return
	}
	conn.Write(netstring.Append(nil, []byte("<p>1</p>")))
	conn.(*net.TCPConn).CloseWrite()
	answer, err := io.ReadAll(conn)
	fmt.Println(len(answer), "bytes in answer,", err)
	stop()
	fmt.Println(<-ended)
	// Output:
	// 16de9dfa <p>1</p>
	// 0 bytes in answer, <nil>
	// <nil>
}
