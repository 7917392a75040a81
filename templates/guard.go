package templates

import (
	"fmt"
	"slices"
	"text/template/parse"
)

// The engines of the standard library cannot be interrupted: a loop that prints nothing runs to its end whatever the
// deadline. So every tree gets an action that asks whether to go on, step, wherever something repeats: at the start of
// each loop's body and of each template.

// stepName names the function that step calls; templates themselves cannot, it is not among those allowed.
const stepName = "_step"

// parseGuarded parses a template and those that it defines, with the allowed functions only, and adds the steps.
func parseGuarded(name, text string) (map[string]*parse.Tree, error) {
	trees, err := parse.Parse(name, text, "", "", allowed)
	if err != nil {
		return nil, err
	}
	// An assignment prints nothing, and html/template leaves it alone in every context.
	step, err := parse.Parse("step", "{{$"+stepName+" := "+stepName+"}}", "", "", map[string]any{stepName: true})
	if err != nil {
		return nil, err
	}
	g := guard{step: step["step"].Root.Nodes[0], calls: make(map[string][]string)}
	for caller, tree := range trees {
		g.walk(caller, tree.Root)
		g.prepend(tree.Root)
	}
	for caller := range trees {
		if err := g.acyclic(caller, nil); err != nil {
			return nil, err
		}
	}
	return trees, nil
}

type guard struct {
	step  parse.Node
	calls map[string][]string // from a template to those that it calls; entries go as they prove acyclic
}

func (g *guard) prepend(list *parse.ListNode) {
	list.Nodes = slices.Insert(list.Nodes, 0, g.step.Copy())
}

// walk adds steps to the loops in list and notes which templates caller, to which it belongs, calls.
func (g *guard) walk(caller string, list *parse.ListNode) {
	if list == nil {
		return
	}
	for _, n := range list.Nodes {
		switch n := n.(type) {
		case *parse.IfNode:
			g.walkBranch(caller, &n.BranchNode)
		case *parse.WithNode:
			g.walkBranch(caller, &n.BranchNode)
		case *parse.RangeNode:
			g.walkBranch(caller, &n.BranchNode)
			g.prepend(n.List)
		case *parse.TemplateNode:
			g.calls[caller] = append(g.calls[caller], n.Name)
		}
	}
}

func (g *guard) walkBranch(caller string, n *parse.BranchNode) {
	g.walk(caller, n.List)
	g.walk(caller, n.ElseList)
}

// acyclic refuses a template that reaches itself: no block needs recursion, and the hundred thousand levels of it that
// text/template allows take hundreds of megabytes.
func (g *guard) acyclic(name string, callers []string) error {
	if slices.Contains(callers, name) {
		return fmt.Errorf("template %q calls itself", name)
	}
	for _, called := range g.calls[name] {
		if err := g.acyclic(called, append(callers, name)); err != nil {
			return err
		}
	}
	delete(g.calls, name)
	return nil
}
