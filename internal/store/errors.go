package store

import (
	"errors"
	"strings"

	"github.com/go-sql-driver/mysql"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// refusals are the MySQL and MariaDB errors that blame the rows: offered again, they would fail again. Everything that
// is not listed blames the database and is retried, because refusing a good row loses it and retrying a bad one does
// not.
var refusals = map[uint16]bool{
	1048: true, // column cannot be null
	1062: true, // duplicate entry, for a key that no insert here expects
	1153: true, // packet bigger than max_allowed_packet
	1264: true, // number out of range
	1265: true, // data truncated
	1292: true, // incorrect value
	1366: true, // incorrect string for the column's character set
	1406: true, // data too long
	3819: true, // check constraint violated (MySQL)
	4025: true, // check constraint violated (MariaDB)
}

// blamesRows tells whether the error comes from what was written, not from the database's state.
func blamesRows(err error) bool {
	var bad *badOffer
	if errors.As(err, &bad) || errors.Is(err, mysql.ErrPktTooLarge) {
		return true
	}
	if my := new(mysql.MySQLError); errors.As(err, &my) {
		return refusals[my.Number]
	}
	switch sqliteCode(err) {
	case sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_MISMATCH:
		return true
	}
	return false
}

// passing tells whether the same transaction may well succeed at once: a deadlock, a lock wait, a busy file.
func passing(err error) bool {
	if my := new(mysql.MySQLError); errors.As(err, &my) {
		return my.Number == 1213 || my.Number == 1205 || my.Number == 1020 // 1020: record changed since last read
	}
	return busy(err)
}

func busy(err error) bool {
	code := sqliteCode(err)
	return code == sqlite3.SQLITE_BUSY || code == sqlite3.SQLITE_LOCKED
}

// noTable tells whether a query failed because a table is missing. SQLite has no code of its own for that.
func noTable(err error) bool {
	if my := new(mysql.MySQLError); errors.As(err, &my) {
		return my.Number == 1146
	}
	return sqliteCode(err) == sqlite3.SQLITE_ERROR && strings.Contains(err.Error(), "no such table")
}

// sqliteCode is the primary result code, 0 if the error is not SQLite's.
func sqliteCode(err error) int {
	var lite *sqlite.Error
	if !errors.As(err, &lite) {
		return 0
	}
	return lite.Code() & 0xff
}

// badOffer says why an offer can never be stored.
type badOffer struct{ reason string }

// Error implements error.
func (e *badOffer) Error() string { return e.reason }
