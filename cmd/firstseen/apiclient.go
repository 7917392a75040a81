package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

const (
	answerTime  = 30 * time.Second // for all that one command asks
	answerBytes = 64 << 20         // of one answer: a block with all its transactions
	listPart    = 100              // rows per request, the most that the API answers
	maxParts    = 1000             // of one list; a part may be empty, where a filter leaves nothing
)

// direct follows no redirects: what is asked for, and the token that goes with it, is for one address.
var direct = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}

const aboutAPI = `The API is the one at --api, in the configuration api, or FIRSTSEEN_API. One that asks for an access key gets
FIRSTSEEN_API_KEY, or the content of the file that FIRSTSEEN_API_KEY_FILE names.

Exit codes: 0 success, 1 the API could not be asked or refused, 2 wrong usage, 3 not all is well (of the commands that
say when), 4 there is no such thing`

// missingError is the answer "there is no such thing": exit code 4.
type missingError struct{ text string }

func (e missingError) Error() string { return e.text }

// apiClient asks one stats API.
type apiClient struct {
	base   *url.URL
	key    string // access key; empty: none is shown
	output string // table or json
	out    io.Writer
}

// apiCommand builds a command that asks the API and prints what it says.
func apiCommand(
	environ []string, use, short, long string, ask func(ctx context.Context, c *apiClient, args []string) error,
) *cobra.Command {
	cmd := &cobra.Command{
		Use: use, Short: short, Long: long + "\n\n" + aboutAPI + ".",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := newAPIClient(cmd, environ)
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), answerTime)
			defer cancel()
			return ask(ctx, c, args)
		},
	}
	if _, argument, ok := strings.Cut(use, " "); ok {
		cmd.Args = oneArgument(argument)
	}
	apiFlags(cmd.Flags())
	return cmd
}

func oneArgument(name string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != 1 || args[0] == "" {
			return usagef("name one %s; see `%s --help`", name, cmd.CommandPath())
		}
		return nil
	}
}

func apiFlags(flags *pflag.FlagSet) {
	flags.String("api", defaults().API, "URL of the stats API")
	bind(flags, "api", "api")
	flags.String("output", "table", "table or json")
}

func newAPIClient(cmd *cobra.Command, environ []string) (*apiClient, error) {
	config, err := load(cmd.Flags(), environ)
	if err != nil {
		return nil, err
	}
	output := cmd.Flags().Lookup("output").Value.String()
	if output != "table" && output != "json" {
		return nil, usagef("--output %q: use table or json", output)
	}
	base, err := url.Parse(config.API)
	if err != nil || base.Host == "" || base.Scheme != "http" && base.Scheme != "https" {
		return nil, usagef("--api: use a URL such as http://127.0.0.1:8080")
	}
	return &apiClient{base: base, key: config.APIKey, output: output, out: cmd.OutOrStdout()}, nil
}

// open asks for a path and returns the answer, which is a success; who asked closes its body.
func (c *apiClient) open(ctx context.Context, values url.Values, header http.Header, path ...string) (*http.Response, error) {
	target := c.base.JoinPath(path...)
	target.RawQuery = values.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target.String(), http.NoBody)
	if err != nil {
		return nil, usagef("--api: %v", err)
	}
	if header != nil {
		req.Header = header
	}
	if c.key != "" {
		req.Header.Set("Authorization", "Bearer "+c.key)
	}
	resp, err := direct.Do(req)
	if err != nil {
		return nil, fmt.Errorf("%w (the address is set by --api)", err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	defer resp.Body.Close()
	return nil, c.refused(target, resp)
}

// refusedError is an answer that is no success and that asking again does not change.
type refusedError struct{ error }

// refused turns an answer that is no success into an error of the kind that gives the exit code.
func (c *apiClient) refused(target *url.URL, resp *http.Response) error {
	var problem struct{ Detail string }
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10)) // what cannot be read has no detail
	_ = json.Unmarshal(text, &problem)                       // nor has what is no problem
	detail := shown(problem.Detail)
	err := fmt.Errorf("%s answers %s: %s", target.Redacted(), resp.Status, detail)
	switch resp.StatusCode {
	case http.StatusBadRequest:
		return usageError{err.Error()}
	case http.StatusNotFound:
		if detail != "" {
			return missingError{detail}
		}
	case http.StatusUnauthorized, http.StatusForbidden:
		return refusedError{fmt.Errorf("%w (set FIRSTSEEN_API_KEY, or FIRSTSEEN_API_KEY_FILE to a file that holds it)", err)}
	}
	if resp.StatusCode/100 == 4 && resp.StatusCode != http.StatusTooManyRequests {
		return refusedError{err}
	}
	return err
}

// get decodes the answer to a path.
func (c *apiClient) get(ctx context.Context, into any, values url.Values, path ...string) error {
	resp, err := c.open(ctx, values, nil, path...)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(io.LimitReader(resp.Body, answerBytes)).Decode(into); err != nil {
		return fmt.Errorf("%s does not answer as the stats API does: %w", c.base.Redacted(), err)
	}
	return nil
}

// part is one answer of a list.
type part[T any] struct {
	Data       []T     `json:"data"`
	NextCursor *string `json:"next_cursor"`
}

// list follows a list until it has most rows, or to its end.
func list[T any](ctx context.Context, c *apiClient, most int, values url.Values, path ...string) ([]T, error) {
	rows := []T{}
	for range maxParts {
		values.Set("limit", fmt.Sprint(min(listPart, most-len(rows))))
		var p part[T]
		if err := c.get(ctx, &p, values, path...); err != nil {
			return nil, err
		}
		rows = append(rows, p.Data...)
		if p.NextCursor == nil || len(rows) >= most {
			return rows[:min(most, len(rows))], nil
		}
		values.Set("cursor", *p.NextCursor)
	}
	return nil, fmt.Errorf("%s has not come to the end of its list after %d parts", c.base.Redacted(), maxParts)
}

// json prints a value as one line.
func (c *apiClient) json(value any) error { return json.NewEncoder(c.out).Encode(value) }

// table prints rows under headings.
func (c *apiClient) table(headings string, row func(t *table)) error {
	t := &table{Writer: tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)}
	if headings != "" {
		t.line(strings.Fields(headings)...)
	}
	row(t)
	return errors.Join(t.err, t.Flush())
}

// table is a table being printed.
type table struct {
	*tabwriter.Writer
	err error
}

// line prints cells. Characters that steer a terminal are not let through: others wrote them.
func (t *table) line(cells ...string) {
	for i := range cells {
		cells[i] = shown(cells[i])
	}
	if _, err := io.WriteString(t.Writer, strings.Join(cells, "\t")+"\n"); err != nil {
		t.err = err
	}
}

// parameters are those flags that were typed, under the names that the API has for them.
func parameters(flags *pflag.FlagSet, names ...string) url.Values {
	values := url.Values{}
	for _, name := range names {
		f := flags.Lookup(name)
		if !f.Changed {
			continue
		}
		value := f.Value.String()
		if several, ok := f.Value.(pflag.SliceValue); ok {
			value = strings.Join(several.GetSlice(), ",")
		}
		values.Set(strings.ReplaceAll(name, "-", "_"), value)
	}
	return values
}

// shown keeps what others wrote from steering the terminal.
func shown(text string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, text)
}

// dashed is a text, or a dash for none.
func dashed[T any](value *T) string {
	if value == nil {
		return "-"
	}
	return fmt.Sprint(*value)
}
