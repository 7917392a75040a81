package client_test

import (
	"context"
	"log"
	"os"
	"os/signal"

	"github.com/firstseen/firstseen/client"
	"github.com/firstseen/firstseen/templates"
)

// An observer of one node that relays to whichever of two servers it can reach, until it is interrupted.
func Example() {
	page, err := templates.Default("block.html")
	if err != nil {
		log.Fatal(err)
	}
	c, err := client.New(client.Options{
		Name:     "observer-1",
		Nodes:    []string{"local=http://127.0.0.1:8545"},
		Servers:  []string{"ingest-a.example:9999", "ingest-b.example:9999"},
		Template: page,
	})
	if err != nil {
		log.Fatal(err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := c.Run(ctx); err != nil {
		log.Fatal(err)
	}
}
