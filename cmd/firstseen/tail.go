package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/spf13/cobra"

	"github.com/firstseen/firstseen/statsapi"
)

const (
	tailSilence = 50 * time.Second // the API says something every 15 s; after this the connection is taken for dead
	tailLine    = 1 << 20          // bytes of one line
	tailWait    = 10 * time.Second // at most, between two attempts
)

func tailCommand(environ []string) *cobra.Command {
	var most int
	cmd := &cobra.Command{
		Use:   "tail",
		Short: "Show changes of state as they happen",
		Long: `Follows the feed: blocks, changes of their status, bare payloads, gaps and alarms, each a line; with --output json each a
JSON object as /v1/ws sends it. It comes back by itself, after the last event that it showed, when the connection or the
API is lost. What the API no longer has is a gap, which is shown too.

` + aboutAPI + `. It ends with 0 when it is interrupted.`,
		Example: `  firstseen tail --kind block,status --chain 1
  firstseen tail --delivery finalized --from earliest --output json | jq .hash
  firstseen tail --address 0x00000000219ab540356cbb839cbe05303d7705fa --count 1`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := newAPIClient(cmd, environ)
			if err != nil {
				return err
			}
			if most < 0 {
				return usagef("--count %d: use 1 or more", most)
			}
			t := &tail{apiClient: c, values: parameters(cmd.Flags(), "chain", "kind", "status", "address", "delivery", "from"),
				left: most, errs: cmd.ErrOrStderr()}
			err = t.follow(cmd.Context())
			if cmd.Context().Err() != nil {
				return nil //nolint:nilerr // interrupted, which is how it is meant to end
			}
			return err
		},
	}
	flags := cmd.Flags()
	apiFlags(flags)
	flags.StringSlice("chain", nil, "only of these chain ids")
	flags.StringSlice("kind", nil, "only block, status, bare, gap or alarm")
	flags.StringSlice("status", nil, "only what became canonical, non_canonical, safe, finalized or orphaned")
	flags.StringSlice("address", nil, "only blocks with a transaction of one of these accounts")
	flags.String("delivery", "instant", "instant, or finalized: only what is final")
	flags.String("from", "latest", "latest, earliest, or a cursor that an event gave")
	flags.IntVar(&most, "count", 0, "end after so many events (default: never)")
	return cmd
}

// tail follows a stream of server-sent events over any number of connections.
type tail struct {
	*apiClient
	values url.Values
	left   int // events until the end; 0: there is none
	errs   io.Writer

	cursor  string // of the last event that was shown
	started bool   // the headings are printed
}

// errEnough is the end that --count asks for.
var errEnough = errors.New("enough")

// follow reads streams until ctx ends, the API refuses, or enough was shown.
func (t *tail) follow(ctx context.Context) error {
	wait := backoff.NewExponentialBackOff()
	wait.InitialInterval, wait.MaxInterval = 200*time.Millisecond, tailWait
	for {
		heard, err := t.stream(ctx)
		var usage usageError
		var missing missingError
		var refused refusedError
		switch {
		case errors.Is(err, errEnough):
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.As(err, &usage), errors.As(err, &missing), errors.As(err, &refused):
			return err
		case heard:
			wait.Reset()
		}
		pause := wait.NextBackOff()
		fmt.Fprintf(t.errs, "firstseen: %s; trying again in %s\n", oneLine(err), pause.Round(time.Millisecond))
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}

// stream reads one connection to its end, and tells whether anything came.
func (t *tail) stream(ctx context.Context) (heard bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	silence := time.AfterFunc(tailSilence, func() { cancel(fmt.Errorf("nothing came for %s", tailSilence)) })
	defer silence.Stop()
	header := http.Header{"Accept": {"text/event-stream"}}
	if t.cursor != "" {
		header.Set("Last-Event-ID", t.cursor)
	}
	resp, err := t.open(ctx, t.values, header, "v1", "stream")
	if err != nil {
		return false, errors.Join(err, context.Cause(ctx))
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, tailLine)
	var e sentEvent
	for lines.Scan() {
		heard = true
		silence.Reset(tailSilence)
		if !e.take(lines.Text()) {
			continue
		}
		if err := t.show(e); err != nil {
			return true, err
		}
		if e.id != "" {
			t.cursor = e.id
		}
		e = sentEvent{}
	}
	if err := errors.Join(lines.Err(), context.Cause(ctx)); err != nil {
		return heard, fmt.Errorf("the stream broke: %w", err)
	}
	return heard, errors.New("the stream ended")
}

// sentEvent is one server-sent event (HTML Living Standard, section 9.2.6).
type sentEvent struct{ id, name, data string }

// take adds a line, and tells whether the event is complete.
func (e *sentEvent) take(line string) bool {
	field, value, _ := strings.Cut(line, ":")
	value = strings.TrimPrefix(value, " ")
	switch field {
	case "id":
		e.id = value
	case "event":
		e.name = value
	case "data":
		if e.data != "" {
			e.data += "\n"
		}
		e.data += value
	}
	return line == ""
}

// show prints an event. Errors of printing end the command: whoever read it is gone.
func (t *tail) show(e sentEvent) error {
	switch {
	case e.data == "": // a sign of life, with the cursor
		return nil
	case e.name == "close":
		return fmt.Errorf("the API ended the stream: %s", shown(e.data))
	}
	if err := t.print(e); err != nil {
		return refusedError{err}
	}
	if t.left--; t.left == 0 {
		return errEnough
	}
	return nil
}

func (t *tail) print(e sentEvent) error {
	if t.output == "json" {
		_, err := fmt.Fprintln(t.out, e.data)
		return err
	}
	if !t.started {
		t.started = true
		if _, err := fmt.Fprintf(t.out, tailRow, "AT", "KIND", "CHAIN", "NUMBER", "STATUS", "HASH"); err != nil {
			return err
		}
	}
	if e.name == "gap" {
		var gap statsapi.Gap
		if err := json.Unmarshal([]byte(e.data), &gap); err != nil {
			return fmt.Errorf("the API sent a gap that is none: %w", err)
		}
		_, err := fmt.Fprintf(t.out, "-- a part of the feed is missing: %s\n", shown(gap.Reason))
		return err
	}
	var event statsapi.Event
	if err := json.Unmarshal([]byte(e.data), &event); err != nil {
		return fmt.Errorf("the API sent an event that is none: %w", err)
	}
	_, err := fmt.Fprintf(t.out, tailRow, stampOf(event.At), shown(event.Kind), number(event.Chain), heights(event),
		shown(became(event)), strings.TrimSpace(shown(event.Hash+" "+event.Note)))
	return err
}

// tailRow aligns what comes line by line, where no table can be measured first.
const tailRow = "%-24s  %-6s  %-8s  %-12s  %-26s  %s\n"

func heights(e statsapi.Event) string {
	switch {
	case e.Number == nil:
		return "-"
	case e.To != nil:
		return number(*e.Number) + "-" + number(*e.To)
	}
	return number(*e.Number)
}

// became is the status, with what it was before.
func became(e statsapi.Event) string {
	switch {
	case e.Status == "":
		return "-"
	case e.Was != "":
		return e.Was + " > " + e.Status
	}
	return e.Status
}
