package wire_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/firstseen/firstseen/internal/wire"
	"github.com/firstseen/firstseen/schema"
)

func TestWelcomeNamesAncestorsOfAPosition(t *testing.T) {
	t.Parallel()
	point := func(n uint64) schema.Point { return schema.Point{Number: n, Hash: schema.Hash{byte(n + 1)}} }
	for name, c := range map[string]struct {
		back []schema.Point
		good bool
	}{
		"none":               {nil, true},
		"down to the first":  {[]schema.Point{point(11), point(8), point(0)}, true},
		"above the position": {[]schema.Point{point(12)}, false},
		"out of order":       {[]schema.Point{point(8), point(11)}, false},
		"without a hash":     {[]schema.Point{{Number: 3}}, false},
	} {
		w := welcome()
		w.Chains[0].Back = c.back
		frame, err := wire.AppendWelcome(nil, w)
		if (err == nil) != c.good {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil {
			continue
		}
		if got, err := wire.ParseWelcome(frame); err != nil || cmp.Diff(w, got) != "" {
			t.Errorf("%s: %v %s", name, err, cmp.Diff(w, got))
		}
	}
}
