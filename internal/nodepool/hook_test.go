package nodepool

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"time"
)

// hookWord as the first argument makes the test binary a restart command: it does what the server at the URL behind it
// does for it, and repeats its answer.
const hookWord = "call-restart-server"

func hook() bool {
	if len(os.Args) != 3 || os.Args[1] != hookWord {
		return false
	}
	client := http.Client{Timeout: time.Minute}
	resp, err := client.Get(os.Args[2])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	defer resp.Body.Close()
	_, _ = io.Copy(os.Stdout, resp.Body)
	if resp.StatusCode != http.StatusOK {
		os.Exit(1) //nolint:gocritic // nothing is left to close
	}
	return true
}
