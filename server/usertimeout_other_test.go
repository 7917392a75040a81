//go:build !linux

package server

func userTimeoutOf(int) int { return -1 }
