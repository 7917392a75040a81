package nodepool

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/firstseen/firstseen/schema"
)

// Repair says how a node that stays out is restarted. A zero field has the default that its comment names.
type Repair struct {
	Hook       []string // command and arguments, run without a shell, {node} standing for the node's name; empty: no repair
	Dependants []string // the same, run once the node answers again: it restarts what watches the node; empty: nothing
	Execute    bool     // run the commands; false: only log what would be run

	Grace    time.Duration // out for so long before it is restarted, 5 min
	Cooldown time.Duration // between restarts of the same node, and at most for it to answer again, 15 min
	Budget   int           // restarts of all nodes in an hour, 4
	Timeout  time.Duration // for one command, 2 min
}

// budgetWindow is the time over which Repair.Budget is spent.
const budgetWindow = time.Hour

func (r Repair) withDefaults() Repair {
	r.Grace = cmp.Or(r.Grace, 5*time.Minute)
	r.Cooldown = cmp.Or(r.Cooldown, 15*time.Minute)
	r.Budget = cmp.Or(r.Budget, 4)
	r.Timeout = cmp.Or(r.Timeout, 2*time.Minute)
	return r
}

func (r Repair) validate(nodes []address) error {
	if len(r.Hook) == 0 {
		if len(r.Dependants) > 0 {
			return errors.New("repair: dependants are restarted after a node: name the node's command too")
		}
		return nil
	}
	t := r.withDefaults()
	if min(t.Grace, t.Cooldown, t.Timeout) < 0 || t.Budget < 0 {
		return errors.New("repair: durations and the budget must not be negative")
	}
	for _, argv := range [][]string{r.Hook, r.Dependants} {
		if len(argv) > 0 && (argv[0] == "" || strings.Contains(argv[0], nodeMark)) {
			return errors.New("repair: the command itself must be given and must not depend on the node")
		}
	}
	for _, n := range nodes {
		if strings.HasPrefix(n.name, "-") {
			return fmt.Errorf("repair: node name %q would be taken for an option: name it otherwise", n.name)
		}
	}
	return nil
}

// nodeMark stands for the node's name in a command.
const nodeMark = "{node}"

// ParseHook reads a repair command: several words are the command and its arguments; a single word is one of
//
//	systemd:UNIT            systemctl restart UNIT
//	docker:CONTAINER        docker restart CONTAINER
//	ecs:CLUSTER/SERVICE     aws ecs update-service --cluster CLUSTER --service SERVICE --force-new-deployment
//	kubectl:NAMESPACE/NAME  kubectl --namespace NAMESPACE rollout restart NAME, such as statefulset/geth-{node}
//
// or else a command without arguments. {node} may stand anywhere behind the first word.
func ParseHook(words []string) ([]string, error) {
	if len(words) != 1 {
		return words, nil
	}
	preset, rest, ok := strings.Cut(words[0], ":")
	if !ok {
		return words, nil
	}
	left, right, split := strings.Cut(rest, "/")
	switch {
	case preset == "systemd" && rest != "":
		return []string{"systemctl", "restart", rest}, nil
	case preset == "docker" && rest != "":
		return []string{"docker", "restart", rest}, nil
	case preset == "ecs" && split && left != "" && right != "":
		return []string{"aws", "ecs", "update-service", "--cluster", left, "--service", right,
			"--force-new-deployment", "--no-cli-pager"}, nil
	case preset == "kubectl" && split && left != "" && right != "":
		return []string{"kubectl", "--namespace", left, "rollout", "restart", right}, nil
	}
	return nil, fmt.Errorf("repair command %q: want systemd:UNIT, docker:CONTAINER, ecs:CLUSTER/SERVICE, "+
		"kubectl:NAMESPACE/KIND/NAME or the words of a command", words[0])
}

// repairer restarts nodes that stay out, one at a time. It belongs to one goroutine.
type repairer struct {
	pool  *Pool
	o     Repair
	log   logrus.FieldLogger
	spent []time.Time // restarts within budgetWindow
	stuck string      // why nothing is done about a node, as logged last
}

func newRepairer(p *Pool) *repairer { return &repairer{pool: p, o: p.o.Repair, log: p.log} }

// run looks for nodes to restart until ctx ends.
func (r *repairer) run(ctx context.Context) {
	for sleep(ctx, r.pool.o.Poll) {
		if n := r.next(); n != nil {
			r.repair(ctx, n)
		}
	}
}

// next returns the node to restart now: the one that has been out longest, unless something speaks against it.
func (r *repairer) next() *Node {
	now := r.pool.o.Now()
	r.spent = slices.DeleteFunc(r.spent, func(t time.Time) bool { return now.Sub(t) >= budgetWindow })
	r.pool.mu.Lock()
	defer r.pool.mu.Unlock()
	var worst *Node
	var spare bool
	for _, n := range r.pool.nodes {
		spare = spare || r.pool.usable(n, now)
		if r.due(n, now) && (worst == nil || n.out.Before(worst.out)) {
			worst = n
		}
	}
	switch {
	case worst == nil:
		r.stuck = ""
		return nil
	case !spare:
		r.hold(worst, "no other node is ready")
		return nil
	case len(r.spent) >= r.o.Budget:
		r.hold(worst, fmt.Sprintf("%d restarts within %s are spent", r.o.Budget, budgetWindow))
		return nil
	}
	r.stuck = ""
	r.spent = append(r.spent, now)
	worst.repaired = now
	return worst
}

// due tells whether a restart may help the node: not on another chain, nor while an operator has it. The caller holds
// the pool's mu.
func (r *repairer) due(n *Node, now time.Time) bool {
	switch {
	case n.cordoned, n.out.IsZero(), n.state == schema.NodeWrongChain, n.state == schema.NodeProbation:
		return false
	}
	return now.Sub(n.out) >= r.o.Grace && (n.repaired.IsZero() || now.Sub(n.repaired) >= r.o.Cooldown)
}

// hold logs once why a node is not restarted.
func (r *repairer) hold(n *Node, why string) {
	if why != r.stuck {
		r.log.WithFields(logrus.Fields{"node": n.name, "reason": why}).Warn("node is not restarted")
	}
	r.stuck = why
}

// repair restarts one node and, once it answers, what depends on it.
func (r *repairer) repair(ctx context.Context, n *Node) {
	r.pool.mu.Lock()
	out, why := r.pool.o.Now().Sub(n.out), n.reason
	r.pool.mu.Unlock()
	log := r.log.WithFields(logrus.Fields{"node": n.name, "out": out.Round(time.Second), "reason": why})
	if !r.o.Execute {
		log.WithField("command", fill(r.o.Hook, n.name)).Warn("dry run: would restart node")
		r.pool.metrics.repair(n.name, "dry_run")
		return
	}
	log.Warn("restarting node")
	began := r.pool.o.Now()
	if !r.command(ctx, n, "restart", r.o.Hook) {
		return
	}
	n.doubt()
	signal(n.wake)
	if !r.answers(ctx, n, began) {
		return
	}
	if len(r.o.Dependants) > 0 {
		r.command(ctx, n, "dependants", r.o.Dependants)
	}
}

// answers waits for a good answer of the node that came after since. Meanwhile no other node is restarted.
func (r *repairer) answers(ctx context.Context, n *Node, since time.Time) bool {
	for sleep(ctx, r.pool.o.Poll) {
		now := r.pool.o.Now()
		r.pool.mu.Lock()
		heard := n.heard.After(since)
		r.pool.mu.Unlock()
		switch {
		case heard:
			r.log.WithField("node", n.name).Info("restarted node answers")
			r.pool.metrics.repair(n.name, "answers")
			return true
		case now.Sub(since) >= r.o.Cooldown:
			r.log.WithField("node", n.name).Error("restarted node does not answer")
			r.pool.metrics.repair(n.name, "silent")
			return false
		}
	}
	return false
}

// maxOutput is how much of a command's output is logged.
const maxOutput = 2 << 10

// command runs one command to its end, at most for Repair.Timeout.
func (r *repairer) command(ctx context.Context, n *Node, what string, template []string) bool {
	argv := fill(template, n.name)
	limited, cancel := context.WithTimeout(ctx, r.o.Timeout)
	defer cancel()
	var output tail
	cmd := exec.CommandContext(limited, argv[0], argv[1:]...)
	cmd.Env = slices.DeleteFunc(os.Environ(), settingOfOurs)
	cmd.Stdout, cmd.Stderr = &output, &output
	cmd.WaitDelay = time.Second // a child that keeps the output open is not waited for
	err := cmd.Run()
	log := r.log.WithFields(logrus.Fields{"node": n.name, "command": argv, "output": n.clean(output.String())})
	if err != nil && !errors.Is(err, exec.ErrWaitDelay) {
		r.pool.metrics.repair(n.name, what+"_failed")
		log.WithError(err).Error("repair command failed")
		return false
	}
	r.pool.metrics.repair(n.name, what)
	log.Info("repair command succeeded")
	return true
}

// settingOfOurs tells whether a variable configures this program: secrets are among these, and what commands print is
// logged.
func settingOfOurs(variable string) bool {
	name, _, _ := strings.Cut(variable, "=")
	return strings.HasPrefix(name, "FIRSTSEEN_") || slices.Contains([]string{"DATABASE_URL", "REDIS_URL", "ETH_RPC_URL"}, name)
}

// fill puts the node's name into a command.
func fill(template []string, node string) []string {
	argv := slices.Clone(template)
	for i := range argv {
		argv[i] = strings.ReplaceAll(argv[i], nodeMark, node)
	}
	return argv
}

// tail keeps the end of what is written.
type tail struct{ buf bytes.Buffer }

// Write implements io.Writer.
func (t *tail) Write(p []byte) (int, error) {
	t.buf.Write(p)
	if extra := t.buf.Len() - maxOutput; extra > 0 {
		t.buf.Next(extra)
	}
	return len(p), nil
}

func (t *tail) String() string { return t.buf.String() }
