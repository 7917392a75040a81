// Package store keeps what the servers receive: every record once, by whoever saw it first, who else saw it and when,
// where each block stands in its chain, and a feed of all of it without gaps. It speaks MySQL (and MariaDB) and SQLite
// with one behaviour.
package store
