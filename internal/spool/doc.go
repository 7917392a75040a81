// Package spool keeps what an observer has not delivered yet in one file, together with how far it got, so that neither
// is lost with the process.
//
//	Append ──► committer ──► file ──► After ──► the link
//	                          │  ◄── Ack │ Fail
//	                          └──► dead letters
//
// Append returns once its blocks are on disk; blocks of several callers that came while the last transaction was being
// written share the next one. The progress (the blocks finished last, heights left out) moves in the same transaction
// as the frames, so a crash leaves both or neither. Every entry ends in exactly one of Ack or Fail; if the end is lost
// in a crash the entry is delivered again, which a server takes for a duplicate.
//
// The file is a bbolt database with a checksum on every record. One process uses it at a time. A file that is damaged is
// put aside when it is opened, never repaired by guess: the chain and the server's position are what to go on from.
package spool
