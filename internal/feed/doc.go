// Package feed lets many readers follow the store's feed, each from a place of its own: history first, then live, every
// seq that its filter lets through once and in order, or an explicit mark of what is missing.
//
// One tailer per process reads the feed's table and hands each event to all readers, who share it: it is encoded once,
// whoever gets it. Hints, within the process or over Redis, only say that there is something to read. The table is what
// counts: it is read every second whether hints arrive or not, so that a lost hint costs a second and never an event.
package feed
