package store

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	gormmysql "gorm.io/driver/mysql"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"
)

var update = flag.Bool("update", false, "write the texts in schema/ingest")

// texts is what a writer in another language needs to store as this package does: the statements, which are ours, and
// the numbers of errors. A batch is one transaction.
type texts struct {
	About     []string          `json:"about"`
	BatchRows int               `json:"batch_rows"`
	MaxOffers int               `json:"batch_offers"`
	MaxBytes  int               `json:"batch_bytes"`
	Session   []string          `json:"session"`
	Inserts   map[string]insert `json:"inserts"`
	Lookup    string            `json:"lookup"`
	Counter   []string          `json:"counter"`
	Clients   string            `json:"count_client"`
	Mark      string            `json:"mark"`
	HasMark   string            `json:"has_mark"`
	Forget    string            `json:"forget_mark"`
	Report    string            `json:"report"`
	Positions string            `json:"positions"`
	Refusals  []uint16          `json:"refusals"`
}

// insert is a statement for any number of rows: text, then row once or more with commas between, then tail.
type insert struct {
	Columns []string `json:"columns"`
	Text    string   `json:"text"`
	Row     string   `json:"row"`
	Tail    string   `json:"tail"`
}

func textsAbout() []string {
	return []string{
		"The SQL of the ingest, for writers in other languages; ? stands for a parameter, in the order of the columns.",
		"One transaction for a batch of at most batch_rows new records and batch_bytes of them, after the session's statements " +
			"on each new connection: insert records sorted by chain and key, statuses non_canonical, each offer with a random " +
			"token of 16 bytes that stays the same in every attempt; look up id, key and token (? for each key): whose token " +
			"is there was first; insert observations by record and observer, transactions, raws and unplaced for new blocks; count " +
			"clients; then, if there are new records, move the counter by their number, read where it is, insert their feed " +
			"rows, blocks by chain and height; COMMIT.",
		"An attempt after a COMMIT whose answer was lost holds if it inserts nothing and finds own tokens, or the mark that a " +
			"batch leaves which only counts clients.",
		"Refusals are the error numbers that blame the rows: halve the batch until the poison stands alone. Everything else is " +
			"retried. The judge (RunJudge in internal/store) decides statuses and takes in reports.",
		"Made by: go test ./internal/store -run Texts -update",
	}
}

func (d dialect) texts(t *testing.T) texts {
	db := opened(t, Options{DSN: "memory"}).db.Session(&gorm.Session{DryRun: true})
	if d == dialectMySQL {
		var err error
		db, err = gorm.Open(gormmysql.New(gormmysql.Config{SkipInitializeWithVersion: true}), &gorm.Config{
			DryRun: true, DisableAutomaticPing: true, SkipDefaultTransaction: true,
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	out := texts{
		About: textsAbout(), BatchRows: batchRows, MaxOffers: batchOffers, MaxBytes: batchBytes, Session: []string{},
		Inserts: map[string]insert{}, Lookup: selectSQL(1), Counter: []string{d.counterSQL()}, Refusals: []uint16{},
	}
	unplaced := table{"unplaced", []string{"record"}, ""}
	for _, tab := range []table{recordsTable(), observationsTable(), transactionsTable(), rawsTable(), feedTable(), unplaced} {
		row := "(" + strings.TrimSuffix(strings.Repeat("?,", len(tab.columns)), ",") + ")"
		head, tail, ok := strings.Cut(d.insertSQL(tab, 1), row)
		if !ok {
			t.Fatal(d.insertSQL(tab, 1))
		}
		out.Inserts[tab.name] = insert{tab.columns, head, row, tail}
	}
	sql := func(tx *gorm.DB) string { return tx.Statement.SQL.String() }
	count := clientRow{IP: "a", Count: 1}
	out.Clients = sql(db.Clauses(d.countClients()).Create(&count))
	mark := markRow{Writer: []byte{1}, Batch: []byte{1}, At: 1}
	out.Mark = sql(db.Clauses(clause.OnConflict{UpdateAll: true}).Create(&mark))
	out.HasMark = "SELECT 1 FROM ingest_marks WHERE writer = ? AND batch = ?"
	out.Forget = "DELETE FROM ingest_marks WHERE writer = ?"
	out.Positions = "SELECT chain, head_number, head_key FROM chains WHERE chain = ?"
	now := "CAST(ROUND((julianday('now') - 2440587.5) * 86400000000) AS INTEGER)"
	if d == dialectMySQL {
		now = "CAST(UNIX_TIMESTAMP(NOW(6)) * 1000000 AS SIGNED)"
		out.Session = slices.Clone(sessionSetup[:])
		for number := range refusals {
			out.Refusals = append(out.Refusals, number)
		}
		slices.Sort(out.Refusals)
		out.Counter = append(out.Counter, "SELECT LAST_INSERT_ID()")
	}
	out.Report = "INSERT INTO reports (observer, report, received_at) VALUES (?, ?, " + now + ")"
	return out
}

func TestTextsForOtherLanguagesAreOurs(t *testing.T) {
	t.Parallel()
	for _, d := range []dialect{dialectMySQL, dialectSQLite} {
		var want bytes.Buffer
		e := json.NewEncoder(&want)
		e.SetEscapeHTML(false)
		e.SetIndent("", "  ")
		if err := e.Encode(d.texts(t)); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join("..", "..", "schema", "ingest", string(d)+".json")
		if *update {
			if err := os.WriteFile(path, want.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		got, err := os.ReadFile(path)
		if err != nil || !bytes.Equal(got, want.Bytes()) {
			t.Errorf("%s is not what this package runs: go test ./internal/store -run Texts -update (%v)", path, err)
		}
	}
}
