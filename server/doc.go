// Package server takes frames from observers over TCP and hands them to the store: one port, two modes (docs/WIRE.md).
//
// The first complete frame of a connection decides its mode, and until then the server writes nothing. Two failures
// shape everything after that. Acking a client that does not read ends in a reset that destroys what it has sent and we
// have not read: so a bare connection is never written to, and is read to its end. Closing a socket with unread input
// resets it too, and takes acks with it that were written and not yet delivered: so every relay connection ends with a
// half-close and some more reading.
//
// Memory follows what arrives. An idle connection costs a goroutine that does nothing but wait, with the smallest stack
// there is, a decoder of some 200 bytes without a buffer and, in relay mode, a timer; there is no writer goroutine until
// there is something to write. A busy one is bounded by the window (relay) or by the store's queue (bare): a store that
// stalls blocks Offer, and then nothing more is read from that socket. Frames above 32 KiB, which may be 4 MiB, are read
// on 64 connections at once, no address having more than a quarter of them; whoever holds such a place and does not get
// on makes room for those who wait.
package server
