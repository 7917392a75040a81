"""Databases by URL: connections as the ingest needs them, and their tables brought up to date."""

from __future__ import annotations

import contextlib
import re
import sqlite3
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, unquote, urlsplit

import pymysql
from sqlalchemy import Connection, Engine, create_engine, event

from firstseen import schema

_FORMS: Final = (
    "want sqlite:///path/to/file, mysql://user:password@host:port/database or user:password@tcp(host:port)/database"
)
_VERSIONS: Final = "goose_db_version"  # where the Go implementation keeps which migrations were applied
_LOCK: Final = "CONCAT('firstseen-', MD5(DATABASE()))"
_LOCK_PATIENCE: Final = 300.0  # seconds


class DatabaseError(Exception):
    """A database that cannot be used as it is. Its text never holds the password."""


@dataclass(frozen=True)
class MySQL:
    """Where a MySQL or MariaDB database is."""

    host: str
    port: int
    user: str
    password: str
    database: str


def parse_mysql(url: str) -> MySQL:
    """Read a mysql:// URL, or the form of Go's driver."""
    native = re.fullmatch(r"(?:(?P<user>[^:@]*)(?::(?P<password>.*))?@)?tcp\((?P<host>[^)]*)\)/(?P<db>[^?]*).*", url)
    if native:
        host, _, port = native["host"].rpartition(":")
        user, password = native["user"] or "", native["password"] or ""
        return MySQL(host.strip("[]"), int(port), user, password, native["db"])
    try:
        parts = urlsplit(url)
        port = parts.port or 3306
    except ValueError:
        raise DatabaseError("database URL not understood: " + _FORMS) from None
    database = parts.path.removeprefix("/")
    if parts.scheme not in ("mysql", "mariadb") or not parts.hostname or not database:
        raise DatabaseError("database not understood: " + _FORMS)
    if parse_qsl(parts.query):
        raise DatabaseError(
            "parameters of the database URL are those of Go's driver, which this is not: leave them out"
        )
    return MySQL(parts.hostname, port, unquote(parts.username or ""), unquote(parts.password or ""), database)


class Database:
    """Connections to one database. Writes go through one engine, reads through another that never waits for them."""

    def __init__(self, url: str) -> None:
        self.path: Path | None = None
        self.mysql: MySQL | None = None
        if url.startswith("sqlite:"):
            rest = url.removeprefix("sqlite:").removeprefix("//")
            if rest in ("", "/") or ":memory:" in rest or "?" in rest:
                raise DatabaseError("SQLite database not understood: want sqlite:///path/to/file without parameters")
            self.path = Path(rest).absolute()
            if not self.path.parent.is_dir():
                raise DatabaseError(f"open {self.path}: there is no such folder: create it")
        else:
            self.mysql = parse_mysql(url)
        self.dialect: schema.Dialect = "sqlite" if self.path else "mysql"
        self.texts = schema.texts(self.dialect)
        self.writes = self._engine()
        self.reads = self._engine().execution_options(isolation_level="AUTOCOMMIT")
        if self.path:
            event.listen(self.writes, "begin", _begin_immediate)

    def __str__(self) -> str:
        if self.mysql:
            m = self.mysql
            return f'MySQL database "{m.database}" at {m.host}:{m.port} as user "{m.user}"'
        return f"SQLite database {self.path}"

    def _engine(self) -> Engine:
        if self.path:
            return create_engine("sqlite://", creator=self._open_sqlite, pool_size=4, poolclass=_queue_pool())
        # MySQL closes a connection that was idle for longer than our session setting says: 30 seconds.
        return create_engine("mysql+pymysql://", creator=self._open_mysql, pool_recycle=20, pool_size=4)

    def _open_sqlite(self) -> sqlite3.Connection:
        assert self.path
        connection = sqlite3.connect(self.path, timeout=10, isolation_level=None, check_same_thread=False)
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=1"):
            connection.execute("PRAGMA " + pragma)
        return connection

    def _open_mysql(self) -> Any:
        assert self.mysql
        m = self.mysql
        connection = pymysql.connect(
            host=m.host, port=m.port, user=m.user, password=m.password, database=m.database, charset="utf8mb4",
            collation="utf8mb4_bin", connect_timeout=5, read_timeout=30, write_timeout=30, autocommit=False,
        )  # fmt: skip
        with connection.cursor() as cursor:
            for statement in self.texts.session:
                cursor.execute(statement)
        return connection

    def sql(self, text: str) -> str:
        """Return a shared statement in the form that this driver takes."""
        return text.replace("?", "%s") if self.mysql else text

    def insert(self, connection: Connection, table: str, rows: Sequence[Sequence[object]]) -> int:
        """Insert rows, and return how many were not there."""
        into, done = self.texts.inserts[table], 0
        for at in range(0, len(rows), self.texts.batch_rows):
            part = rows[at : at + self.texts.batch_rows]
            text = into.text + ",".join([into.row] * len(part)) + into.tail
            values = tuple(value for row in part for value in row)
            done += connection.exec_driver_sql(self.sql(text), values).rowcount
        return done

    def query(self, text: str, values: Sequence[object] = ()) -> list[Any]:
        """Run a shared statement that reads."""
        with self.reads.connect() as connection:
            return list(connection.exec_driver_sql(self.sql(text), tuple(values)))

    def check(self) -> None:
        """Raise DatabaseError unless the database can be reached and its tables are up to date."""
        need = max(schema.migrations(self.dialect))
        try:
            with self.reads.connect() as connection:
                have = max(_applied(connection), default=0)
        except Exception as e:
            raise DatabaseError(f"connect to {self}: {_reason(e)}") from e
        if have < need:
            raise DatabaseError(
                f"{self} is at version {have} of its tables, this program needs {need}: run firstseen migrate"
            )

    def migrate(self) -> None:
        """Apply the migrations that are missing, one process at a time; the Go implementation keeps the same books."""
        try:
            with self._alone(), self.reads.connect() as connection:
                done = _applied(connection)
                if not done:
                    _create_versions(connection, self.dialect)
                for version, text in schema.migrations(self.dialect).items():
                    if version in done:
                        continue
                    for statement in _statements(text):
                        connection.exec_driver_sql(statement.replace("%", "%%") if self.mysql else statement)
                    insert = f"INSERT INTO {_VERSIONS} (version_id, is_applied) VALUES (?, ?)"  # noqa: S608 - a constant
                    connection.exec_driver_sql(self.sql(insert), (version, True))
        except (DatabaseError, OSError):
            raise
        except Exception as e:
            raise DatabaseError(f"migrate {self}: {_reason(e)}") from e

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep other processes from migrating, by the lock that the Go implementation takes, too."""
        if self.path:
            lock = sqlite3.connect(f"{self.path}-migrate", timeout=_LOCK_PATIENCE, isolation_level=None)
            try:
                lock.execute("BEGIN EXCLUSIVE")
                yield
            finally:
                lock.close()
            return
        with self.reads.connect() as connection:
            connection.exec_driver_sql("SET SESSION wait_timeout = 28800")  # the lock goes with the connection
            deadline = time.monotonic() + _LOCK_PATIENCE
            while connection.exec_driver_sql(f"SELECT GET_LOCK({_LOCK}, 10)").scalar() != 1:
                if time.monotonic() > deadline:
                    raise DatabaseError("another process has held the lock on migrations for five minutes")
            yield
            connection.exec_driver_sql(f"DO RELEASE_LOCK({_LOCK})")

    def close(self) -> None:
        """Close all connections."""
        self.writes.dispose()
        self.reads.dispose()


def _queue_pool() -> Any:
    from sqlalchemy.pool import QueuePool

    return QueuePool


def _begin_immediate(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _reason(e: Exception) -> str:
    return " ".join(str(getattr(e, "orig", None) or e).split())


def _applied(connection: Connection) -> set[int]:
    try:
        rows = connection.exec_driver_sql(f"SELECT version_id FROM {_VERSIONS}")  # noqa: S608 - a constant
    except Exception as e:
        if "no such table" in str(e) or getattr(getattr(e, "orig", None), "args", [0])[0] == 1146:
            return set()
        raise
    return {row[0] for row in rows}


def _create_versions(connection: Connection, dialect: schema.Dialect) -> None:
    columns = {
        "sqlite": "id INTEGER PRIMARY KEY AUTOINCREMENT, version_id INTEGER NOT NULL, is_applied INTEGER NOT NULL, "
        "tstamp TIMESTAMP DEFAULT (datetime('now'))",
        "mysql": "id bigint unsigned NOT NULL AUTO_INCREMENT, version_id bigint NOT NULL, is_applied boolean NOT NULL, "
        "tstamp timestamp NULL default now(), PRIMARY KEY(id)",
    }
    connection.exec_driver_sql(f"CREATE TABLE IF NOT EXISTS {_VERSIONS} ({columns[dialect]})")
    connection.exec_driver_sql(f"INSERT INTO {_VERSIONS} (version_id, is_applied) VALUES (0, 1)")  # noqa: S608


def _statements(text: str) -> list[str]:
    lines = [line for line in text.splitlines() if not line.startswith("--")]
    return [s for s in "\n".join(lines).split(";\n") if s.strip(" \n;")] if lines else []
