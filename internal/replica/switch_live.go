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
	if err != nil {
		return nil, err
	}
	if w == nil {
		if role := f.state.current().Role; role != o.Role {
			return nil, refuse("no row of %s is applied yet, so there is nothing to go on from: start the replica with --role %s",
				role, o.Role)
		}
		return nil, nil
	}
	return w, w.Do(ctx)
}
