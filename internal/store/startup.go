package store

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/sirupsen/logrus"
)

// maxClockGap is how far this machine's clock may be from the database's before the log says so. Nothing is lost by it:
// times of arrival are merely as wrong as the clock that took them, and retention goes by them.
const maxClockGap = 2 * time.Second

// warnSettings says what of a MySQL server's settings breaks what the store promises. None of them keeps it from
// starting: whoever runs the server may know better, or may be mending it.
func (s *Store) warnSettings(ctx context.Context) {
	if s.dialect != dialectMySQL {
		return
	}
	log := s.log.WithField("database", s.source.String())
	for _, check := range []func(context.Context, logrus.FieldLogger) error{
		s.warnDurability, s.warnCharset, s.warnStatements, s.warnClock,
	} {
		if err := check(ctx, log); err != nil {
			log.WithError(err).Warn("cannot check the database's settings")
		}
	}
}

// warnDurability says so when the server may lose commits that it has acknowledged.
func (s *Store) warnDurability(ctx context.Context, log logrus.FieldLogger) error {
	var row struct{ Flush, Binlog, Sync int }
	err := s.db.WithContext(ctx).Raw("SELECT @@GLOBAL.innodb_flush_log_at_trx_commit AS flush, " +
		"@@GLOBAL.log_bin AS `binlog`, @@GLOBAL.sync_binlog AS `sync`").Scan(&row).Error
	if err != nil {
		return fmt.Errorf("read durability (want innodb_flush_log_at_trx_commit=1): %w", err)
	}
	if row.Flush != 1 {
		log.Warnf("innodb_flush_log_at_trx_commit is %d: a power loss loses acknowledged blocks; set it to 1", row.Flush)
	}
	if row.Binlog != 0 && row.Sync != 1 {
		// After a crash InnoDB rolls back what it had prepared and the binary log does not have.
		log.Warnf("sync_binlog is %d with the binary log on: a power loss loses acknowledged blocks; set it to 1", row.Sync)
	}
	return nil
}

// warnCharset says so when text is not compared byte by byte, as keys must be, or does not arrive as it was sent: a proxy
// may have its own idea of the connection, and tables can be converted behind our back.
func (s *Store) warnCharset(ctx context.Context, log logrus.FieldLogger) error {
	var session struct{ Charset, Collation string }
	err := s.db.WithContext(ctx).Raw("SELECT @@character_set_connection AS charset, @@collation_connection AS collation").
		Scan(&session).Error
	if err != nil {
		return fmt.Errorf("read character set: %w", err)
	}
	if session.Charset != "utf8mb4" || session.Collation != "utf8mb4_bin" {
		log.Warnf("the connection's character set is %s (%s): text outside it is refused or changed; want utf8mb4 (utf8mb4_bin)",
			session.Charset, session.Collation)
	}
	var loose []string
	err = s.db.WithContext(ctx).Raw("SELECT CONCAT(table_name, '.', column_name, ' ', collation_name) " +
		"FROM information_schema.columns WHERE table_schema = DATABASE() AND table_name IN ('records', 'observations', " +
		"'transactions', 'clients', 'chains', 'heads', 'gaps', 'feed') AND collation_name NOT LIKE '%\\_bin' ORDER BY 1").
		Scan(&loose).Error
	if err != nil {
		return fmt.Errorf("read collations: %w", err)
	}
	if len(loose) > 0 {
		log.Warnf("columns are not compared byte by byte, so that keys may collide; want ascii_bin or utf8mb4_bin: %s",
			strings.Join(loose, ", "))
	}
	return nil
}

// warnStatements says so when the server can hardly keep what stores prepare on it.
func (s *Store) warnStatements(ctx context.Context, log logrus.FieldLogger) error {
	const need = mysqlLanes * maxStatements
	var most int
	err := s.db.WithContext(ctx).Raw("SELECT @@GLOBAL.max_prepared_stmt_count").Scan(&most).Error
	if err != nil {
		return fmt.Errorf("read max_prepared_stmt_count: %w", err)
	}
	if most < need {
		log.Warnf("max_prepared_stmt_count is %d: each server needs %d, and stores nothing without", most, need)
	}
	return nil
}

// warnClock says so when the database's clock and this machine's differ.
func (s *Store) warnClock(ctx context.Context, log logrus.FieldLogger) error {
	before := s.now()
	theirs, err := s.databaseClock(ctx)
	if err != nil {
		return err
	}
	after := s.now()
	middle := before.Add(after.Sub(before) / 2) // the answer was right somewhere between question and answer
	gap := middle.Sub(time.UnixMicro(theirs)).Round(time.Millisecond)
	if slack := after.Sub(before) / 2; gap.Abs() > maxClockGap+slack {
		log.Warnf("this machine's clock differs from the database's by %v: times of arrival are as wrong; synchronize them", gap)
	}
	return nil
}
