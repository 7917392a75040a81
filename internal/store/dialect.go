package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"

	"github.com/go-sql-driver/mysql"
	gormmysql "gorm.io/driver/mysql"
	gormsqlite "gorm.io/driver/sqlite"
	"gorm.io/gorm"
)

// dialect is the database's language. Its value names the folder of its migrations.
type dialect string

const (
	dialectMySQL  dialect = "mysql"
	dialectSQLite dialect = "sqlite"
)

// dialector adapts gorm to the language over a pool that is already open.
func (d dialect) dialector(pool *sql.DB) gorm.Dialector {
	if d == dialectMySQL {
		return gormmysql.New(gormmysql.Config{Conn: pool})
	}
	return gormsqlite.New(gormsqlite.Config{DriverName: "sqlite", Conn: pool})
}

// sessionSetup is what every MySQL connection runs first. Strict mode turns silent truncation into an error whatever
// the server's default. READ COMMITTED lets a writer that waited for the feed's lock see what the one before it
// committed; as a session setting it saves the round trip that naming it in each transaction costs.
//
// A process that stops in the middle of a transaction, frozen or behind a network that is gone, would hold the feed's lock
// and everybody up for as long as its connection seems to live, hours by default. MariaDB ends a transaction in which
// nobody says anything for idle_transaction_timeout; MySQL knows only how long a connection may be idle, which is longer
// than ours are (connIdle). Each ignores what stands in the other's comment.
var sessionSetup = [...]string{
	`SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ZERO_DATE,NO_ZERO_IN_DATE,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION'`,
	`SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED`,
	`SET SESSION innodb_lock_wait_timeout = 10 /*M!100300 , idle_transaction_timeout = 5 */ /*!80000 , wait_timeout = 30 */`,
}

// mysqlConnector opens connections that have run sessionSetup.
type mysqlConnector struct{ driver.Connector }

func newMySQLConnector(cfg *mysql.Config) (driver.Connector, error) {
	inner, err := mysql.NewConnector(cfg)
	if err != nil {
		return nil, err
	}
	return mysqlConnector{inner}, nil
}

// Connect implements driver.Connector.
func (c mysqlConnector) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := c.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	execer, ok := conn.(driver.ExecerContext)
	if !ok {
		_ = conn.Close()
		return nil, fmt.Errorf("set up session: %T cannot execute", conn)
	}
	for _, stmt := range sessionSetup {
		if _, err := execer.ExecContext(ctx, stmt, nil); err != nil {
			_ = conn.Close()
			return nil, fmt.Errorf("set up session: %w", err)
		}
	}
	return conn, nil
}
