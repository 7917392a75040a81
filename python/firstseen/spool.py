"""What an observer has not delivered yet, and how far it got, in one SQLite file, or in memory."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

REMEMBERED: Final = 1024  # blocks handed on, by which a branch is found again

_TABLES: Final = """
CREATE TABLE IF NOT EXISTS frames (seq INTEGER PRIMARY KEY AUTOINCREMENT, content BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS handed_on (
  seq INTEGER PRIMARY KEY AUTOINCREMENT, chain INTEGER NOT NULL, number INTEGER NOT NULL, hash TEXT NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS handed_on_hash ON handed_on (chain, hash);
CREATE TABLE IF NOT EXISTS refused (
  seq INTEGER PRIMARY KEY, content BLOB NOT NULL, code TEXT NOT NULL, text TEXT NOT NULL, at INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS owner (observer TEXT NOT NULL, chain INTEGER NOT NULL) STRICT;
"""


class SpoolError(Exception):
    """A spool that cannot be used."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One frame that waits to be acknowledged."""

    seq: int
    content: bytes


class Spool:
    """Frames in order. It is bounded: while it is full, add waits, and reading the chain with it."""

    def __init__(self, path: Path | None, most_bytes: int) -> None:
        try:
            self._db = sqlite3.connect(path or ":memory:", isolation_level=None, check_same_thread=False)
            for pragma in ("locking_mode=EXCLUSIVE", "journal_mode=WAL", "synchronous=FULL"):
                self._db.execute("PRAGMA " + pragma)
            self._db.executescript(_TABLES)
        except sqlite3.Error as e:
            raise SpoolError(f"open spool {path}: {e}") from e
        self._most = most_bytes
        self._changed = threading.Condition(threading.RLock())  # guards the connection and the fields
        self._closed = False
        self._bytes: int = self._db.execute("SELECT COALESCE(SUM(LENGTH(content)), 0) FROM frames").fetchone()[0]

    def claim(self, observer: str, chain: int) -> None:
        """Make it this observer's and chain's; SpoolError if it is another's."""
        with self._changed:
            row = self._db.execute("SELECT observer, chain FROM owner").fetchone()
            if row is None:
                self._db.execute("INSERT INTO owner VALUES (?, ?)", (observer, chain))
            elif row != (observer, chain):
                raise SpoolError(f"the spool is that of observer {row[0]} on chain {row[1]}")

    def add(self, content: bytes, chain: int, number: int, block_hash: str) -> bool:
        """Keep a frame and note that its block was handed on, at once; false if the spool was closed meanwhile."""
        with self._changed:
            while self._bytes and self._bytes + len(content) > self._most and not self._closed:
                self._changed.wait()
            if self._closed:
                return False
            self._db.execute("BEGIN")
            self._db.execute("INSERT INTO frames (content) VALUES (?)", (content,))
            self.remember(chain, [(number, block_hash)])
            self._db.execute("COMMIT")
            self._bytes += len(content)
            self._changed.notify_all()
            return True

    def remember(self, chain: int, blocks: Sequence[tuple[int, str]]) -> None:
        """Note blocks that need not be handed on any more, the newest last."""
        with self._changed:
            insert = "INSERT INTO handed_on (chain, number, hash) VALUES (?, ?, ?)"
            self._db.executemany(insert, [(chain, number, block_hash) for number, block_hash in blocks])
            self._db.execute("DELETE FROM handed_on WHERE seq <= (SELECT MAX(seq) FROM handed_on) - ?", (REMEMBERED,))

    def last(self, chain: int) -> tuple[int, str] | None:
        """Return the block handed on last."""
        with self._changed:
            found: tuple[int, str] | None = self._db.execute(
                "SELECT number, hash FROM handed_on WHERE chain = ? ORDER BY seq DESC LIMIT 1", (chain,)
            ).fetchone()
            return found

    def knows(self, chain: int, block_hash: str) -> bool:
        """Tell whether a block was handed on, as far back as is remembered."""
        with self._changed:
            query = "SELECT COUNT(*) FROM handed_on WHERE chain = ? AND hash = ?"
            return bool(self._db.execute(query, (chain, block_hash)).fetchone()[0])

    def after(self, seq: int, most: int) -> list[Entry]:
        """Return the frames behind seq."""
        with self._changed:
            query = "SELECT seq, content FROM frames WHERE seq > ? ORDER BY seq LIMIT ?"
            return [Entry(*row) for row in self._db.execute(query, (seq, most))]

    def done(self, entries: Sequence[Entry]) -> None:
        """Forget what was acknowledged."""
        with self._changed:
            self._db.execute("BEGIN")
            self._db.executemany("DELETE FROM frames WHERE seq = ?", [(e.seq,) for e in entries])
            self._db.execute("COMMIT")
            self._bytes -= sum(len(e.content) for e in entries)
            self._changed.notify_all()

    def bury(self, entry: Entry, code: str, text: str) -> None:
        """Put what was refused for good aside."""
        with self._changed:
            self._db.execute("BEGIN")
            insert = "INSERT INTO refused (seq, content, code, text, at) VALUES (?, ?, ?, ?, ?)"
            self._db.execute(insert, (entry.seq, entry.content, code, text, time.time_ns() // 1000))
            self._db.execute("DELETE FROM frames WHERE seq = ?", (entry.seq,))
            self._db.execute("COMMIT")
            self._bytes -= len(entry.content)
            self._changed.notify_all()

    def empty(self) -> bool:
        """Tell whether everything was delivered."""
        with self._changed:
            return self._bytes == 0

    def wait(self, seconds: float) -> None:
        """Wait for a change, at most so long."""
        with self._changed:
            self._changed.wait(seconds)

    def stop(self) -> None:
        """Let nothing in any more; whoever waits to add is told so."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def close(self) -> None:
        """Close the file."""
        with self._changed:
            self._db.close()
