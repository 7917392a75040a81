package objects

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// childVariable makes the test binary a writer that creates and replaces objects in its working directory until it is
// killed.
const childVariable = "FIRSTSEEN_TEST_OBJECTS_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childVariable) != "" {
		fmt.Println("ended:", writeForEver())
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// bodyOf tells of every byte whose it is, so that half an object is no whole one of another key.
func bodyOf(text string) []byte { return bytes.Repeat([]byte(text+"\n"), 2000) }

func writeForEver() error {
	ctx := context.Background()
	s, err := Open(ctx, ".", Options{Writer: true})
	if err != nil {
		return err
	}
	_, tag, _ := s.Get(ctx, "checkpoint") // of the writer before, if there was one
	for i := 0; ; i++ {
		text := fmt.Sprintf("%d-%d", os.Getpid(), i)
		if err := s.Create(ctx, "feed/"+text+"/object", bodyOf(text)); err != nil {
			return err
		}
		if tag, err = s.Replace(ctx, "checkpoint", bodyOf(text), tag); err != nil {
			return err
		}
		fmt.Println(text)
	}
}

// killed runs a writer, kills it after some objects, and returns what it said was stored.
func killed(t *testing.T, root string, after int) (told []string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Dir, cmd.Env = root, append(os.Environ(), childVariable+"=yes")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for lines := bufio.NewScanner(out); lines.Scan(); {
		told = append(told, lines.Text())
		if len(told) == after {
			_ = cmd.Process.Kill() // what is read after this was stored before it
		}
	}
	_ = cmd.Wait() // killed
	return told
}

func TestKilledWriterLeavesWholeObjects(t *testing.T) {
	t.Parallel()
	root := filepath.Join(t.TempDir(), "objects")
	s := open(t, root, Options{Writer: true})
	for round := range 5 {
		last := ""
		for _, text := range killed(t, root, 3*(round+1)) {
			wantBody(t, s, "feed/"+text+"/object", string(bodyOf(text)))
			last = text
		}
		keys, err := s.List(t.Context(), "", "", 10_000)
		if err != nil {
			t.Fatal(err)
		}
		for _, key := range keys {
			body, _, err := s.Get(t.Context(), key)
			first, _, _ := bytes.Cut(body, []byte("\n"))
			if err != nil || !bytes.Equal(body, bodyOf(string(first))) {
				t.Fatalf("after %s, %s holds %d bytes of %s, %v", last, key, len(body), first, err)
			}
		}
	}
}
