package nodepool

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
)

// repairs is a bench with a repairer that is asked by hand.
func repairs(t *testing.T, nodes int, r Repair) (*bench, *repairer, *safeBuffer) {
	t.Helper()
	var book safeBuffer
	log := logrus.New()
	log.SetOutput(&book)
	r.Grace = 10 * time.Second
	b := seat(t, nodes, func(o *Options) { o.Repair, o.Log, o.Poll, o.Stale = r, log, time.Millisecond, 3*time.Second })
	b.all(50)
	return b, newRepairer(b.Pool), &book
}

// down lets time pass in which only the nodes from onwards answer.
func (b *bench) down(from int, d time.Duration) {
	for ; d > 0; d -= time.Second {
		for i := range b.nodes {
			if i < from {
				b.fails(i)
			} else {
				b.says(i, 'a', 50)
			}
		}
		b.pass(time.Second)
	}
}

func nameOf(n *Node) string {
	if n == nil {
		return ""
	}
	return n.name
}

func TestRepairWaitsForTheGracePeriodAndTheCooldown(t *testing.T) {
	t.Parallel()
	b, r, _ := repairs(t, 3, Repair{Hook: []string{"true"}, Cooldown: 20 * time.Second})
	b.down(1, 11*time.Second) // out since the third second
	if n := r.next(); n != nil {
		t.Fatalf("%s within the grace period", n.name)
	}
	b.down(1, 3*time.Second)
	if n := r.next(); nameOf(n) != "a" {
		t.Fatalf("restarts %q, want a", nameOf(n))
	}
	b.down(1, 19*time.Second)
	if n := r.next(); n != nil {
		t.Fatal("again within the cool-down")
	}
	b.down(1, 2*time.Second)
	if n := r.next(); nameOf(n) != "a" {
		t.Fatalf("restarts %q, want a", nameOf(n))
	}
}

func TestRepairNeverTouchesTheLastOneNorACordonedOne(t *testing.T) {
	t.Parallel()
	b, r, book := repairs(t, 2, Repair{Hook: []string{"true"}})
	b.down(2, time.Minute)
	if n := r.next(); n != nil {
		t.Fatalf("restarts %s", n.name)
	}
	if !strings.Contains(book.String(), "no other node is ready") {
		t.Error("the log does not say why")
	}
	for range 4 {
		b.says(1, 'a', 50)
	}
	if err := b.Cordon("a"); err != nil {
		t.Fatal(err)
	}
	if n := r.next(); n != nil {
		t.Fatalf("restarts %s, which is cordoned", n.name)
	}
	if err := b.Uncordon("a"); err != nil {
		t.Fatal(err)
	}
	if n := r.next(); nameOf(n) != "a" {
		t.Fatal("not restarted")
	}
}

func TestRepairKeepsItsBudget(t *testing.T) {
	t.Parallel()
	b, r, book := repairs(t, 4, Repair{Hook: []string{"true"}, Budget: 2})
	b.down(3, time.Minute)
	var done []string
	for range 4 {
		done = append(done, nameOf(r.next()))
	}
	if !slices.Equal(done, []string{"a", "b", "", ""}) || !strings.Contains(book.String(), "2 restarts within") {
		t.Errorf("restarts %q", done)
	}
	b.down(3, budgetWindow)
	if n := r.next(); n == nil {
		t.Error("the budget does not come back")
	}
}

func TestRepairOnlySaysWhatItWouldDoUnlessToldOtherwise(t *testing.T) {
	t.Parallel()
	touched := filepath.Join(t.TempDir(), "touched-")
	b, r, book := repairs(t, 2, Repair{Hook: []string{"touch", touched + nodeMark}})
	b.down(1, time.Minute)
	r.repair(t.Context(), r.next())
	if _, err := os.Stat(touched + "a"); err == nil || !strings.Contains(book.String(), "dry run") {
		t.Errorf("the command was run, or nothing was said: %s", book.String())
	}
	b, r, book = repairs(t, 2, Repair{Execute: true, Hook: []string{"touch", touched + nodeMark + "; touch x"}})
	b.down(1, time.Minute)
	n := r.next()
	b.mu.Lock()
	n.heard = b.now.Add(time.Hour) // it answers as soon as it was restarted
	b.mu.Unlock()
	r.repair(t.Context(), n)
	if _, err := os.Stat(touched + "a; touch x"); err != nil {
		t.Errorf("%v; the log: %s", err, book.String())
	}
}

func TestCommandsOfRepairDoNotSeeSecrets(t *testing.T) {
	t.Setenv("FIRSTSEEN_CLIENT__TOKEN", "c4nary")
	t.Setenv("DATABASE_URL", "mysql://u:c4nary@h/d")
	t.Setenv("OPERATORS_OWN", "kept")
	b, r, book := repairs(t, 2, Repair{Execute: true,
		Hook: []string{"printenv", "FIRSTSEEN_CLIENT__TOKEN", "DATABASE_URL", "OPERATORS_OWN"}})
	b.down(1, time.Minute)
	r.repair(t.Context(), r.next())
	if strings.Contains(book.String(), "c4nary") || !strings.Contains(book.String(), "kept") {
		t.Error(book.String())
	}
}

func TestFailedRepairIsTold(t *testing.T) {
	t.Parallel()
	b, r, book := repairs(t, 2, Repair{Execute: true, Hook: []string{"ls", "/no/such/folder"}, Dependants: []string{"false"}})
	b.down(1, time.Minute)
	r.repair(t.Context(), r.next())
	if !strings.Contains(book.String(), "repair command failed") || !strings.Contains(book.String(), "No such file") {
		t.Error(book.String())
	}
}

func TestRepairPresets(t *testing.T) {
	t.Parallel()
	for word, want := range map[string]string{
		"systemd:geth@{node}.service":         "systemctl restart geth@a.service",
		"docker:geth-{node}":                  "docker restart geth-a",
		"ecs:nodes/{node}":                    "aws ecs update-service --cluster nodes --service a --force-new-deployment --no-cli-pager",
		"kubectl:eth/statefulset/geth-{node}": "kubectl --namespace eth rollout restart statefulset/geth-a",
		"/usr/local/bin/restart":              "/usr/local/bin/restart",
	} {
		argv, err := ParseHook([]string{word})
		if got := strings.Join(fill(argv, "a"), " "); err != nil || got != want {
			t.Errorf("%s: %q, %v", word, got, err)
		}
	}
	for _, word := range []string{"ecs:nodes", "kubectl:x", "systemd:", "nomad:job"} {
		if _, err := ParseHook([]string{word}); err == nil {
			t.Errorf("%s: no error", word)
		}
	}
}
