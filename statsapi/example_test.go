package statsapi_test

import (
	"context"
	"fmt"
	"io"
	"net/http"

	"github.com/firstseen/firstseen/internal/store"
	"github.com/firstseen/firstseen/statsapi"
)

func Example() {
	ctx, stop := context.WithCancel(context.Background())
	s, err := store.Open(ctx, store.Options{DSN: "memory"})
	if err != nil {
		panic(err)
	}
	if err := s.Migrate(ctx); err != nil {
		panic(err)
	}
	api, err := statsapi.New(ctx, statsapi.Options{Addr: "127.0.0.1:0", Store: s})
	if err != nil {
		panic(err)
	}
	ended := make(chan error)
	go func() { ended <- api.Run(ctx) }()

	resp, err := http.Get("http://" + api.Addr().String() + "/v1/connections")
	if err != nil {
		panic(err)
	}
	body, _ := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	fmt.Print(string(body))

	http.DefaultClient.CloseIdleConnections()
	stop()
	fmt.Println(<-ended, s.Close())
	// Output:
	// {"total":null,"known":false,"reason":"this process does not follow the servers' beats","servers":[],"consistency":"availability"}
	// <nil> <nil>
}
