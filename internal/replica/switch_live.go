package replica

import (
	"context"
	"fmt"
)

// Switch makes a follower that runs follow another role, and tells what that changed; nil if it follows it already. No
// rows are applied meanwhile. What keeps it from it is a Refused, and then it goes on as before.
func (f *Follower) Switch(ctx context.Context, o SwitchOptions) (*Switch, error) {
	resume, err := f.pause(ctx)
	if err != nil {
		return nil, fmt.Errorf("switch: %w", err)
	}
	defer resume()
	w, err := PlanSwitch(ctx, o)
	if err != nil || w == nil {
		return nil, err
	}
	return w, w.Do(ctx)
}
