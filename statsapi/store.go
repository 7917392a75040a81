package statsapi

import (
	"context"
	"time"

	"github.com/firstseen/firstseen/schema"
)

// Store is what the API reads. Each of its parts is what one kind of page needs; internal/store has them all.
type Store interface {
	ChainReader
	RecordReader
	RecordLister
	AccountReader
	RecentReader
	FeedReader
	BlockDetailer
	Tallier
	CatReader
	NodeReader
	HeaderReader
	EventReader
	AuditReader
	RawReader
}

// ChainReader tells where every stored chain stands, by chain id.
type ChainReader interface {
	Chains(ctx context.Context) ([]schema.ChainState, error)
}

// RecordReader finds records.
type RecordReader interface {
	// RecordsByKey returns the records of that key on the given chains, by chain.
	RecordsByKey(ctx context.Context, key schema.Key, chains []uint64) ([]schema.Record, error)
	// BlocksAt returns all blocks of one height, those stored earlier first.
	BlocksAt(ctx context.Context, chain, number uint64) ([]schema.Record, error)
	// Payload returns a record's payload as it was stored.
	Payload(ctx context.Context, id uint64) ([]byte, error)
}

// RecordLister lists records. A list starts after a place, or with its first when that is nil; next is where to go on, nil
// at the end. Conditions that no index serves may make an answer short with more to come.
type RecordLister interface {
	// ListBlocks lists in the order that schema.BlockPlace describes.
	ListBlocks(
		ctx context.Context, chains []uint64, f schema.RecordFilter, ascending bool, after *schema.BlockPlace, limit int,
	) (found []schema.Record, next *schema.BlockPlace, err error)
	// ListRecords lists in the order that schema.RecordPlace describes.
	ListRecords(
		ctx context.Context, f schema.RecordFilter, ascending bool, after *schema.RecordPlace, limit int,
	) (found []schema.Record, next *schema.RecordPlace, err error)
	// PageBlocks starts after skipping some blocks of one chain.
	PageBlocks(ctx context.Context, chain uint64, skip, limit int) ([]schema.Record, error)
	// PageRecords starts after skipping some of all records, those received last first.
	PageRecords(ctx context.Context, skip, limit int) ([]schema.Record, error)
	// TransactionCounts leaves out blocks that have no transaction.
	TransactionCounts(ctx context.Context, blocks []schema.Key) (map[schema.Key]uint64, error)
}

// BlockDetailer tells what belongs to one block.
type BlockDetailer interface {
	// TransactionsOf returns a block's transactions in the block's order.
	TransactionsOf(ctx context.Context, block schema.Key) ([]schema.Transaction, error)
	// Arrivals returns each observer's first observation of a record, in the order received.
	Arrivals(ctx context.Context, record uint64) ([]schema.Arrival, error)
}

// Tallier counts without reading everything each time.
type Tallier interface {
	// Tally counts at most limit feed rows after seq. It returns a lower Seq if the feed is shorter than that.
	Tally(ctx context.Context, seq, limit uint64) (schema.Tally, error)
	// CountObservations may take long on a large store.
	CountObservations(ctx context.Context) (uint64, error)
}

// CatReader reads what the text pages show.
type CatReader interface {
	// NewestKeys returns the records received last, newest first.
	NewestKeys(ctx context.Context, limit int) ([]schema.KeyTime, error)
	// Clients returns the addresses that sent bare payloads.
	Clients(ctx context.Context, limit int) ([]schema.ClientCount, error)
}

// NodeReader reads what observers said of their nodes.
type NodeReader interface {
	// Nodes lists views in the order that schema.NodePlace describes; it starts after a place, or with the first when it
	// is nil.
	Nodes(ctx context.Context, f schema.NodeFilter, after *schema.NodePlace, limit int) ([]schema.ObservedNode, error)
	// NodeHistories returns up to limit transitions of each place, newest first.
	NodeHistories(ctx context.Context, places []schema.NodePlace, limit int) ([]schema.ObservedEvent, error)
	// NodeEvents returns up to limit transitions of one node, those received last first.
	NodeEvents(ctx context.Context, f schema.NodeFilter, limit int) ([]schema.ObservedEvent, error)
}

// EventReader reads what the event store's routes show besides blocks.
type EventReader interface {
	// PlacesOf returns a transaction in each block that holds it, those stored earlier first.
	PlacesOf(ctx context.Context, transaction schema.Hash) ([]schema.PlacedTransaction, error)
	// SentBy lists what an account sent on a chain's branch, newest first, after skipping some.
	SentBy(ctx context.Context, chain uint64, account schema.Address, skip, limit int) ([]schema.PlacedTransaction, error)
	// CountSentBy counts what SentBy lists, up to a limit.
	CountSentBy(ctx context.Context, chain uint64, account schema.Address, limit int) (uint64, error)
	// TransactionHashes returns each block's transactions in the block's order.
	TransactionHashes(ctx context.Context, blocks []schema.Key) (map[schema.Key][]schema.Hash, error)
}

// HeaderReader reads block headers.
type HeaderReader interface {
	// Headers returns headers in RLP; blocks whose header is not kept are left out.
	Headers(ctx context.Context, chain uint64, blocks []schema.Key) (map[schema.Key][]byte, error)
}

// AccountReader reads what accounts have to do with.
type AccountReader interface {
	// ListTransactions lists an account's transactions in the order that schema.TransactionPlace describes; after, next and
	// short answers are as with RecordLister.
	ListTransactions(
		ctx context.Context, f schema.TransactionFilter, ascending bool, after *schema.TransactionPlace, limit int,
	) (found []schema.PlacedTransaction, next *schema.TransactionPlace, err error)
	// PageTransactions starts after skipping some. It heeds account, chains, roles and heights only.
	PageTransactions(
		ctx context.Context, f schema.TransactionFilter, ascending bool, skip, limit int,
	) (found []schema.PlacedTransaction, next *schema.TransactionPlace, err error)
	// CountTransactions counts what PageTransactions pages through, up to most.
	CountTransactions(ctx context.Context, f schema.TransactionFilter, most int) (uint64, error)
	// AccountOn returns nil if nothing is known of the account on that chain. Counts go up to most.
	AccountOn(ctx context.Context, chain uint64, account schema.Address, most int) (*schema.AccountState, error)
}

// RecentReader reads what came in lately.
type RecentReader interface {
	// Recent counts records received since a time, at most so many of them.
	Recent(ctx context.Context, since time.Time, most int) (schema.Recent, error)
	// Sightings returns the observations of the newest blocks, at most so many blocks.
	Sightings(ctx context.Context, chain *uint64, blocks int) ([]schema.Sighting, error)
}

// FeedReader reads the feed.
type FeedReader interface {
	// Feed returns up to limit rows after a seq, in order.
	Feed(ctx context.Context, after uint64, limit int) ([]schema.FeedEntry, error)
	// FeedEnd returns where the feed ends.
	FeedEnd(ctx context.Context) (schema.FeedEnd, error)
	// BlockAddresses returns the addresses that the transactions of blocks name.
	BlockAddresses(ctx context.Context, blocks []schema.Key) (map[schema.Key][]schema.Address, error)
}

// RawReader reads blocks as their nodes showed them, for JSON-RPC.
type RawReader interface {
	// BranchKey returns the block of a height that is on its chain's branch; empty if there is none.
	BranchKey(ctx context.Context, chain, number uint64) (schema.Key, error)
	// Branch passes on the blocks on a chain's branch between two heights, both included, in order.
	Branch(ctx context.Context, chain, from, to uint64, each func(schema.BranchHeader) error) error
	// Raws returns blocks as schema.RawBlock packed; those of which no observer sent it are left out.
	Raws(ctx context.Context, chain uint64, blocks []schema.Key) (map[schema.Key][]byte, error)
}
