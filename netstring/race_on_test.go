//go:build race

package netstring

const raceEnabled = true
