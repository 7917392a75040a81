package schema

// FeedEnd is where the feed ends. A seq means something only within its epoch: another epoch is another database, or one
// that was emptied.
type FeedEnd struct {
	Epoch string // the same for as long as the feed is the same log; empty while it has no row
	Seq   uint64 // of the last row, 0 while there is none

	// Was is the epoch before this one, if the same log went on under a new one: its rows up to Since are those that are
	// there now. Empty in every other case.
	Was   string
	Since uint64
}

// FeedEntry is one row of the feed with what it is about.
type FeedEntry struct {
	FeedEvent
	Record *Record // the block or bare payload, with the status that it has by now; nil for gaps and alarms
}
