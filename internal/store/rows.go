package store

import (
	"time"

	"github.com/firstseen/firstseen/schema"
)

// The tables as gorm sees them. Times are microseconds since 1970 UTC, hashes and addresses hex digits without 0x.

type recordRow struct {
	ID          uint64 `gorm:"primaryKey"`
	Chain       uint64
	Key         string
	Number      *uint64
	Parent      *string
	Status      *string
	BlockTime   *int64
	ObservedAt  *int64
	ReceivedAt  int64
	ContentType string
	Payload     []byte
	Observer    *string
	Node        *string
	Origin      *string
	Server      string
	Remote      string
	Token       []byte

	FeeRecipient *string
}

func (recordRow) TableName() string { return "records" }

type clientRow struct {
	IP    string `gorm:"primaryKey"`
	Count uint64
}

func (clientRow) TableName() string { return "clients" }

type chainRow struct {
	Chain           uint64 `gorm:"primaryKey;autoIncrement:false"`
	RootKey         string
	RootNumber      uint64
	RootParent      string
	HeadKey         string
	HeadNumber      uint64
	SafeNumber      *uint64
	FinalizedNumber *uint64
	Halted          *string
}

func (chainRow) TableName() string { return "chains" }

type headRow struct {
	Chain           uint64 `gorm:"primaryKey;autoIncrement:false"`
	Observer        string `gorm:"primaryKey"`
	Node            string
	HeadKey         string
	HeadNumber      uint64
	BeforeKey       *string
	BeforeNumber    *uint64
	SafeKey         *string
	SafeNumber      *uint64
	FinalizedKey    *string
	FinalizedNumber *uint64
	ReportedAt      int64
}

func (headRow) TableName() string { return "heads" }

type gapRow struct {
	Chain      uint64 `gorm:"primaryKey;autoIncrement:false"`
	Observer   string `gorm:"primaryKey"`
	FromNumber uint64 `gorm:"primaryKey;autoIncrement:false"`
	ToNumber   uint64 `gorm:"primaryKey;autoIncrement:false"`
	Reason     string
	ReportedAt int64
}

func (gapRow) TableName() string { return "gaps" }

type nodeRow struct {
	Observer   string `gorm:"primaryKey"`
	Chain      uint64 `gorm:"primaryKey;autoIncrement:false"`
	Node       string `gorm:"primaryKey"`
	State      string
	Reason     string
	Height     *uint64
	Lag        *uint64
	LatencyP50 *float64 `gorm:"column:latency_p50"`
	LatencyP99 *float64 `gorm:"column:latency_p99"`
	Since      int64
	Cordoned   bool
	ReportedAt int64
}

func (nodeRow) TableName() string { return "nodes" }

type nodeEventRow struct {
	ID         uint64 `gorm:"primaryKey"`
	Observer   string
	Node       string
	Chain      uint64
	FromState  string
	ToState    string
	Reason     string
	At         int64
	ReceivedAt int64
}

func (nodeEventRow) TableName() string { return "node_events" }

type feedRow struct {
	Seq      uint64 `gorm:"primaryKey;autoIncrement:false"`
	Kind     string
	Chain    uint64
	Key      *string
	Number   *uint64
	ToNumber *uint64
	Status   *string
	Was      *string
	Note     *string
	At       int64
}

func (feedRow) TableName() string { return "feed" }

type counterRow struct {
	ID      uint8 `gorm:"primaryKey;autoIncrement:false"`
	LastSeq uint64
}

func (counterRow) TableName() string { return "feed_counter" }

// rawRow is a block as its node showed it, packed as it came.
type rawRow struct {
	Record uint64 `gorm:"primaryKey;autoIncrement:false"`
	Body   []byte
}

func (rawRow) TableName() string { return "raws" }

// blockRow is what the judge needs of a block.
type blockRow struct {
	ID     uint64
	Key    string
	Number uint64
	Parent string
	Status schema.Status
}

func (blockRow) TableName() string { return "records" }

// markAge is how old a mark must be for its writer to be taken for gone: no COMMIT is in doubt for so long.
const markAge = 24 * time.Hour

// markRow is the last batch of a writer whose COMMIT leaves no other trace.
type markRow struct {
	Writer []byte `gorm:"primaryKey"`
	Batch  []byte
	At     int64
}

func (markRow) TableName() string { return "ingest_marks" }

// retentionRow tells up to which record a kind of pruning has been done.
type retentionRow struct {
	Name string `gorm:"primaryKey"`
	UpTo uint64
}

func (retentionRow) TableName() string { return "retention" }

// unplacedRow is a block whose status is to be decided.
type unplacedRow struct {
	Record uint64 `gorm:"primaryKey;autoIncrement:false"`
}

func (unplacedRow) TableName() string { return "unplaced" }

// reportRow is what an observer said, until it is taken in.
type reportRow struct {
	ID         uint64 `gorm:"primaryKey"`
	Observer   string
	Report     []byte
	ReceivedAt int64
}

func (reportRow) TableName() string { return "reports" }
