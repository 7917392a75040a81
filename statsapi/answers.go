package statsapi

// Block is one block as lists show it.
type Block struct {
	Chain       Number `json:"chain" doc:"Chain id."`
	Number      Number `json:"number" doc:"Height."`
	Hash        string `json:"hash" pattern:"^0x[0-9a-f]{64}$"`
	Parent      string `json:"parent" pattern:"^0x[0-9a-f]{64}$"`
	Time        Time   `json:"time" doc:"The block's own timestamp."`
	Status      string `json:"status" enum:"canonical,non_canonical,safe,finalized,orphaned"`
	Observer    string `json:"observer" doc:"Who saw it first."`
	Node        string `json:"node" doc:"The node through which it was seen first."`
	Origin      string `json:"origin" enum:"head,backfill" doc:"Whether it was that observer's head or fetched later."`
	Server      string `json:"server" doc:"The server that received it first."`
	ObservedAt  Time   `json:"observed_at" doc:"By the observer's clock."`
	ReceivedAt  Time   `json:"received_at" doc:"By the server's clock, which orders records."`
	ContentType string `json:"content_type" doc:"Of the payload."`

	TransactionCount Number `json:"transaction_count"`
}

// BlockList is a part of the list of blocks.
type BlockList struct {
	Data       []Block `json:"data" nullable:"false"`
	NextCursor *string `json:"next_cursor" doc:"Pass it as cursor to go on; null at the end."`
	*PageBar
}

// PageBar is where a page lies among all pages. Lists that were asked for by cursor or that span chains have none.
type PageBar struct {
	PageCount *Number    `json:"pageCount,omitempty" doc:"Pages of this limit."`
	ItemCount *Number    `json:"itemCount,omitempty" doc:"Blocks of this chain."`
	Pages     []PageLink `json:"pages,omitzero" nullable:"false" doc:"Up to three pages around this one."`
}

// PageLink leads to one page.
type PageLink struct {
	Number Number `json:"number"`
	URL    string `json:"url" format:"uri-reference"`
}

// BlockDetail is one block with all that belongs to it.
type BlockDetail struct {
	Block
	Siblings     []string      `json:"siblings" nullable:"false" doc:"Hashes of other blocks of this height."`
	Observations []Observation `json:"observations" nullable:"false" doc:"In the order received; the first was first."`
	Transactions []Transaction `json:"transactions" nullable:"false" doc:"In the block's order."`
}

// Observation is one observer's first sight of a block.
type Observation struct {
	Observer     string  `json:"observer"`
	Node         string  `json:"node"`
	Server       string  `json:"server"`
	Origin       string  `json:"origin" enum:"head,backfill"`
	ObservedAt   Time    `json:"observed_at" doc:"By the observer's clock."`
	ReceivedAt   Time    `json:"received_at" doc:"By the server's clock."`
	DelaySeconds float64 `json:"delay_seconds" doc:"Received after the first observation by this much."`
}

// Transaction is the summary of a transaction. What receipts tell is null when the observer could not get them.
type Transaction struct {
	Hash     string  `json:"hash" pattern:"^0x[0-9a-f]{64}$"`
	Index    uint32  `json:"index"`
	From     string  `json:"from" pattern:"^0x[0-9a-f]{40}$"`
	To       *string `json:"to" pattern:"^0x[0-9a-f]{40}$" doc:"Null for a contract creation."`
	Value    string  `json:"value" pattern:"^[0-9]+$" doc:"Wei."`
	GasUsed  *uint64 `json:"gas_used"`
	Status   *uint8  `json:"status" doc:"1 success, 0 failure (EIP-658)."`
	Contract *string `json:"contract" pattern:"^0x[0-9a-f]{40}$" doc:"The contract created, if any."`
}

// Connections is how many connections the servers hold open. A total that is not known is null, never 0.
type Connections struct {
	Total   *int               `json:"total" doc:"Null while unknown."`
	Known   bool               `json:"known"`
	Reason  string             `json:"reason,omitempty" doc:"Why the total is unknown."`
	Servers []ServerConnection `json:"servers" nullable:"false" doc:"Those counted, or last seen while unknown."`

	Consistency string          `json:"consistency" enum:"availability,strong" doc:"Whether servers' beats were read, or each was asked."`
	Counted     *int            `json:"counted,omitempty" doc:"With strong: over the servers that answered, also while the total is unknown."`
	Missing     []MissingServer `json:"missing,omitzero" nullable:"false" doc:"With strong: servers whose beats go on and that did not answer."`

	By     string            `json:"by,omitempty" enum:"server,ip,observer" doc:"What groups are."`
	Groups []ConnectionGroup `json:"groups,omitzero" nullable:"false" doc:"The largest first."`
	Others int               `json:"others,omitempty" doc:"Connections in groups beyond the limit."`
}

// MissingServer is a server that could not be asked, and why.
type MissingServer struct {
	Server string `json:"server"`
	Reason string `json:"reason"`
}

// ConnectionGroup is connections that have a server, a client address or an observer in common. Connections that have not
// named an observer are under (bare) or (undecided).
type ConnectionGroup struct {
	Name  string `json:"name"`
	Count int    `json:"count"`
}

// ServerConnection is one server's part.
type ServerConnection struct {
	Server     string  `json:"server"`
	Count      int     `json:"count"`
	AgeSeconds float64 `json:"age_seconds" doc:"Since its last beat, or 0 when it was asked."`
	Address    string  `json:"address,omitempty"`
}

// Stats is everything in a few numbers.
type Stats struct {
	Time         Time          `json:"time" doc:"When this was answered."`
	Records      Number        `json:"records" doc:"Blocks and bare payloads."`
	Blocks       Number        `json:"blocks" doc:"Over all chains, siblings included."`
	Bare         Number        `json:"bare" doc:"Payloads that came without a header."`
	Transactions Number        `json:"transactions" doc:"In all blocks, siblings included."`
	Observations Number        `json:"observations" doc:"Each observer's first sight of each block."`
	Duplicates   Number        `json:"duplicates" doc:"Observations of blocks that were stored already."`
	FeedSeq      Number        `json:"feed_seq" doc:"The last state change."`
	Rates        Rates         `json:"rates" doc:"Of the last minute."`
	Chains       []ChainStats  `json:"chains" nullable:"false"`
	Servers      []ServerStats `json:"servers" nullable:"false" doc:"By name."`
	Observers    []FirstCount  `json:"observers" nullable:"false" doc:"By name."`
	Connections  ConnectionSum `json:"connections"`
}

// Rates is how much was received lately.
type Rates struct {
	WindowSeconds float64 `json:"window_seconds" doc:"What the rates are taken over: a minute, or less while more than 5000 records come in a minute."`
	Records       float64 `json:"records_per_second"`
	Blocks        float64 `json:"blocks_per_second"`
	Transactions  float64 `json:"transactions_per_second"`
}

// ChainStats is where one chain stands.
type ChainStats struct {
	Chain     Number         `json:"chain"`
	Blocks    Number         `json:"blocks"`
	Root      Point          `json:"root" doc:"The first block of the branch that is stored without a gap."`
	Head      Point          `json:"head"`
	Safe      OptionalNumber `json:"safe" doc:"The highest safe height."`
	Finalized OptionalNumber `json:"finalized" doc:"The highest finalized height."`
	Halted    *string        `json:"halted" doc:"Why nothing changes status any more; null while all is well."`

	BlocksPerSecond       float64 `json:"blocks_per_second"`
	TransactionsPerSecond float64 `json:"transactions_per_second"`
}

// ServerStats is what one server was the first to receive.
type ServerStats struct {
	Server           string  `json:"server"`
	Records          Number  `json:"records" doc:"Blocks and bare payloads."`
	RecordsPerSecond float64 `json:"records_per_second"`
}

// Point names one block.
type Point struct {
	Number Number `json:"number"`
	Hash   string `json:"hash" pattern:"^0x[0-9a-f]{64}$"`
}

// FirstCount is how many blocks an observer was first to report.
type FirstCount struct {
	Observer string `json:"observer"`
	First    Number `json:"first"`

	FirstPerSecond float64 `json:"first_per_second"`
}

// ConnectionSum is Connections without the servers.
type ConnectionSum struct {
	Total  *int   `json:"total" doc:"Null while unknown."`
	Known  bool   `json:"known"`
	Reason string `json:"reason,omitempty"`
}

// NodeView is what one observer thinks of one node.
type NodeView struct {
	Observer string `json:"observer"`
	Name     string `json:"name" doc:"What this observer calls the node."`
	Chain    Number `json:"chain" doc:"Chain id."`

	State      string         `json:"state" doc:"unknown, live, ready, lagging, quarantined, probation or wrong_chain; later versions may add some."`
	Reason     string         `json:"reason" doc:"Why it is in this state; may be empty."`
	Since      Time           `json:"since" doc:"Of the state, by the observer's clock."`
	Cordoned   bool           `json:"cordoned" doc:"Taken out of use by hand."`
	Height     OptionalNumber `json:"height" doc:"Of its head; null while unknown."`
	Lag        OptionalNumber `json:"lag" doc:"Blocks behind the tip that the observer's nodes agree on; null while unknown."`
	LatencyP50 *float64       `json:"latency_p50_seconds" doc:"Half of its recent answers took no longer; null before the first."`
	LatencyP99 *float64       `json:"latency_p99_seconds" doc:"99 of 100 recent answers took no longer; null before the first."`

	ReportedAt Time    `json:"reported_at" doc:"When the observer said so, by the store's clock."`
	AgeSeconds float64 `json:"age_seconds" doc:"Since then."`
	Stale      bool    `json:"stale" doc:"Older than 25 seconds: the observer is silent, and this is the past."`
}

// Node is what one observer thinks of one node, and how it came to that.
type Node struct {
	NodeView
	History []Transition `json:"history" nullable:"false" doc:"The last transitions, newest first, of the last 24 hours."`
}

// NodeList is a part of the list of nodes.
type NodeList struct {
	Data       []Node  `json:"data" nullable:"false" doc:"By observer, chain and name."`
	NextCursor *string `json:"next_cursor" doc:"Pass it as cursor to go on; null at the end."`
}

// NodeDetail is one node as all its observers see it.
type NodeDetail struct {
	Name    string               `json:"name"`
	Views   []NodeView           `json:"views" nullable:"false" doc:"By observer and chain, at most 100. /v1/nodes?node= has all."`
	History []ObservedTransition `json:"history" nullable:"false" doc:"Of the last 24 hours, those received last first."`
}

// Transition is a node's change from one state to another, as an observer decided it.
type Transition struct {
	From       string `json:"from"`
	To         string `json:"to"`
	Reason     string `json:"reason"`
	At         Time   `json:"at" doc:"By the observer's clock."`
	ReceivedAt Time   `json:"received_at" doc:"By the store's clock."`
}

// ObservedTransition is a Transition with who decided it.
type ObservedTransition struct {
	Observer string `json:"observer"`
	Chain    Number `json:"chain"`
	Transition
}
