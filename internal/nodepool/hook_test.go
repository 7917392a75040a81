package nodepool

// hook lets the test binary stand in for a restart command.
func hook() bool { return false }
