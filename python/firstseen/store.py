"""Group commit: what is offered while one transaction runs is the next one.

The SQL is schema/ingest's, the same that the Go store runs. This module adds the loop around it: batch, fold, retry,
halve. It judges nothing: docs/adr/0012 says who does.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from firstseen import wire
from firstseen.database import Database
from firstseen.header import Header

QUEUE_ROWS: Final = 4096
QUEUE_BYTES: Final = 32 << 20
_FIRST_PAUSE: Final = 0.005  # seconds, between attempts
_MOST_PAUSE: Final = 2.0
_SQLITE_REFUSALS: Final = (19, 18, 20)  # CONSTRAINT, TOOBIG, MISMATCH

_log: Final = logging.getLogger("firstseen.store")


@dataclass(frozen=True, slots=True)
class Settlement:
    """How an offer ended: f (first) or d (duplicate), both committed; refused for good; or neither, with the reason."""

    flag: str = ""
    refused: bool = False
    reason: str = ""


@dataclass(slots=True)
class Offer:
    """One verified observation, or one bare payload, on its way into the store."""

    chain: int  # 0 for a bare payload
    key: str  # 64 digits
    payload: bytes
    content_type: str
    server: str
    remote: str
    received_at: int  # microseconds
    done: Callable[[Settlement], None]  # on the loop, once
    header: Header | None = None
    observation: wire.Observation | None = None
    observer: str = ""
    token: bytes = field(default_factory=lambda: os.urandom(16))
    settlement: Settlement | None = None

    @property
    def size(self) -> int:
        """About what it takes of memory."""
        transactions = len(self.observation.transactions) if self.observation else 0
        raw = len(self.observation.raw) if self.observation else 0
        return 512 + len(self.payload) + raw + 256 * transactions

    @property
    def number(self) -> int:
        """The block's height; 0 for a bare payload."""
        return self.header.number if self.header else 0


@dataclass(slots=True)
class _Entry:
    """One key of a batch: the offer that inserts it, and all with the same key."""

    lead: Offer
    all: list[Offer]
    id: int = 0
    first: bool = False


class _CommitLostError(Exception):
    """The answer to a COMMIT did not come: it may hold."""


class Store:
    """Stores offers. Its queue is bounded in rows and bytes: while it is full, offer waits, and so do its callers."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self._writer = os.urandom(16)
        self._marked = False
        self._queue: deque[Offer] = deque()
        self._filled = threading.Condition()  # guards _queue and _stopped
        self._stopped = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="committer", daemon=True)
        self._loop: asyncio.AbstractEventLoop
        self._room: asyncio.Event
        self._rows = self._bytes = 0  # held, until settled; the loop's own
        self.flush: Callable[[], None] = lambda: None  # called on the loop after a batch is answered

    def start(self) -> None:
        """Start the committer; on the loop that will offer."""
        self._loop = asyncio.get_running_loop()
        self._room = asyncio.Event()
        self._thread.start()

    async def stop(self) -> None:
        """End the committer; what is still queued is settled as nothing."""
        self._stop.set()
        with self._filled:
            self._stopped = True
            self._filled.notify()
        await asyncio.to_thread(self._thread.join, 30)
        if self._marked:
            await asyncio.to_thread(self._forget)

    async def offer(self, offer: Offer) -> None:
        """Queue an offer, waiting for room. Its done is called after the COMMIT that settles it."""
        while self._rows >= QUEUE_ROWS or (self._rows and self._bytes + offer.size > QUEUE_BYTES):
            self._room.clear()
            await self._room.wait()
        self._rows += 1
        self._bytes += offer.size
        with self._filled:
            self._queue.append(offer)
            if len(self._queue) == 1:
                self._filled.notify()

    def _answer(self, batch: Sequence[Offer]) -> None:
        for offer in batch:
            self._rows -= 1
            self._bytes -= offer.size
            offer.done(offer.settlement or Settlement(reason="the store stopped"))
        self._room.set()
        self.flush()

    # The committer's thread.

    def _run(self) -> None:
        while batch := self._take():
            if not self._stop.is_set():
                self._settle(batch)
            self._loop.call_soon_threadsafe(self._answer, batch)

    def _take(self) -> list[Offer]:
        texts, batch, keys, size = self._db.texts, list[Offer](), set[tuple[int, str]](), 0
        with self._filled:
            while not self._queue and not self._stopped:
                self._filled.wait()
            while self._queue and len(batch) < texts.batch_offers:
                offer = self._queue[0]
                if (offer.chain, offer.key) not in keys:
                    if keys and (len(keys) == texts.batch_rows or size + offer.size > texts.batch_bytes):
                        break
                    keys.add((offer.chain, offer.key))
                    size += offer.size
                batch.append(self._queue.popleft())
        return batch

    def _settle(self, batch: Sequence[Offer]) -> None:
        """Commit a batch; one that the database refuses for what is in it is halved until the poison stands alone."""
        entries = _fold(batch)
        error = self._persist(entries)
        if error is not None and self._blames_rows(error):
            if len(batch) > 1:
                self._settle(batch[: len(batch) // 2])
                self._settle(batch[len(batch) // 2 :])
                return
            batch[0].settlement = Settlement(refused=True, reason=wire.clean(str(getattr(error, "orig", error))))
        if error is not None:
            return
        for entry in entries:
            for offer in entry.all:
                offer.settlement = Settlement("f" if entry.first and offer is entry.lead else "d")

    def _persist(self, entries: Sequence[_Entry]) -> Exception | None:
        """Try until it is committed, the rows are to blame or the store is stopped."""
        pause, lost, told = _FIRST_PAUSE, False, False
        while True:
            try:
                self._attempt(entries, lost)
            except Exception as e:  # noqa: BLE001 - whatever it is, nothing may be lost for it
                if self._blames_rows(e):
                    return e
                lost = lost or isinstance(e, _CommitLostError)
                if not told and pause > 0.1:
                    told = True
                    _log.error("store cannot commit, will try until it can: %s", " ".join(str(e).split()))
                if self._stop.wait(pause * random.uniform(0.5, 1.5)):  # noqa: S311 - jitter
                    return e
                pause = min(2 * pause, _MOST_PAUSE)
            else:
                if told:
                    _log.info("store commits again")
                return None

    def _blames_rows(self, e: Exception) -> bool:
        if not isinstance(e, DBAPIError) or e.orig is None:
            return False
        if self._db.mysql:
            number = e.orig.args[0] if e.orig.args else 0
            return number in self._db.texts.refusals
        return (getattr(e.orig, "sqlite_errorcode", 0) & 0xFF) in _SQLITE_REFUSALS

    def _attempt(self, entries: Sequence[_Entry], lost: bool) -> None:
        """Run one transaction."""
        with self._db.writes.connect() as connection:
            transaction = connection.begin()
            inserted = self._db.insert(connection, "records", [_record(e.lead) for e in entries])
            self._identify(connection, entries)
            if lost and not inserted and self._held(connection, entries):
                transaction.rollback()
                return
            firsts = [e for e in entries if e.first]
            self._details(connection, entries, firsts)
            self._count_clients(connection, entries, inserted)
            if firsts:
                self._publish(connection, firsts)
            try:
                transaction.commit()
            except DBAPIError as e:
                raise _CommitLostError(str(e.orig)) from e

    def _identify(self, connection: Connection, entries: Sequence[_Entry]) -> None:
        """Read ids and tokens: whose token a row carries was first."""
        found: dict[tuple[int, str], Any] = {}
        for chain in {e.lead.chain for e in entries}:
            keys = [e.lead.key for e in entries if e.lead.chain == chain]
            text = self._db.texts.lookup.replace("IN (?)", "IN (" + ",".join("?" * len(keys)) + ")")
            for row in connection.exec_driver_sql(self._db.sql(text), (chain, *keys)):
                found[chain, row[1]] = row
        for e in entries:
            row = found[e.lead.chain, e.lead.key]
            e.id, e.first = row[0], bytes(row[2]) == e.lead.token

    def _held(self, connection: Connection, entries: Sequence[_Entry]) -> bool:
        """Tell whether an earlier attempt's COMMIT, whose answer was lost, did hold."""
        if any(e.first for e in entries):
            return True
        values = (self._writer, entries[0].lead.token)
        return connection.exec_driver_sql(self._db.sql(self._db.texts.has_mark), values).first() is not None

    def _details(self, connection: Connection, entries: Sequence[_Entry], firsts: Sequence[_Entry]) -> None:
        seen: dict[tuple[int, str], tuple[object, ...]] = {}
        for e in entries:
            for offer in e.all:
                if offer.observation:
                    seen.setdefault((e.id, offer.observer), _observation(e.id, offer, offer.observation))
        self._db.insert(connection, "observations", [seen[k] for k in sorted(seen)])
        self._db.insert(connection, "transactions", [row for e in firsts for row in _transactions(e.lead)])
        raws = [(e.id, e.lead.observation.raw) for e in firsts if e.lead.observation and e.lead.observation.raw]
        self._db.insert(connection, "raws", sorted(raws))
        self._db.insert(connection, "unplaced", sorted((e.id,) for e in firsts if e.lead.header))

    def _count_clients(self, connection: Connection, entries: Sequence[_Entry], inserted: int) -> None:
        """Count bare payloads by address. A count, unlike all the rest, must not be repeated: hence the mark."""
        counts: dict[str, int] = {}
        for e in entries:
            if not e.lead.header:
                counts[e.lead.remote] = counts.get(e.lead.remote, 0) + len(e.all)
        for remote in sorted(counts):
            connection.exec_driver_sql(self._db.sql(self._db.texts.count_client), (remote, counts[remote]))
        if counts and not inserted:
            self._marked = True
            mark = (self._writer, entries[0].lead.token, _now())
            connection.exec_driver_sql(self._db.sql(self._db.texts.mark), mark)

    def _publish(self, connection: Connection, firsts: list[_Entry]) -> None:
        """Write the feed, under its counter's lock, which is taken as late as this because all others wait for it."""
        move, *read = self._db.texts.counter
        result = connection.exec_driver_sql(self._db.sql(move), (len(firsts),))
        last = (connection.exec_driver_sql(read[0]) if read else result).scalar_one()
        firsts.sort(key=lambda e: (e.lead.chain, e.lead.number))
        at, rows = _now(), []
        for seq, e in enumerate(firsts, last - len(firsts) + 1):
            o = e.lead
            block = o.header is not None
            rows.append(
                (seq, "block" if block else "bare", o.chain, o.key, o.number if block else None, None,
                 "non_canonical" if block else None, None, None, at)
            )  # fmt: skip
        self._db.insert(connection, "feed", rows)

    def _forget(self) -> None:
        try:
            with self._db.writes.begin() as connection:
                connection.exec_driver_sql(self._db.sql(self._db.texts.forget_mark), (self._writer,))
        except DBAPIError as e:
            _log.debug("ingest mark left behind: %s", e.orig)  # a later store deletes it

    # What connections ask besides; each blocks, so it belongs on a thread.

    def report(self, observer: str, report: bytes) -> None:
        """Leave a report to the judge."""
        with self._db.writes.begin() as connection:
            connection.exec_driver_sql(self._db.sql(self._db.texts.report), (observer, report))

    def positions(self, chains: Sequence[int]) -> list[wire.Position]:
        """Tell how far each chain is stored without a gap, leaving out those that are unknown."""
        found = []
        for chain in chains:
            if chain >= 2**63:
                continue
            for row in self._db.query(self._db.texts.positions, (chain,)):
                found.append(wire.Position(row[0], row[1], "0x" + row[2]))  # noqa: PERF401
        return sorted(found, key=lambda p: p.chain)


def _now() -> int:
    return time.time_ns() // 1000


def _fold(batch: Sequence[Offer]) -> list[_Entry]:
    """Join offers of one key and sort by key: writers that lock rows in one order do not deadlock."""
    entries: dict[tuple[int, str], _Entry] = {}
    for offer in batch:
        entry = entries.setdefault((offer.chain, offer.key), _Entry(offer, []))
        entry.all.append(offer)
    return [entries[key] for key in sorted(entries)]


def _record(o: Offer) -> tuple[object, ...]:
    block: tuple[object, ...] = (None,) * 8
    recipient = header = None
    if o.header and o.observation:
        h, seen = o.header, o.observation
        block = (h.number, h.parent[2:], "non_canonical", h.time * 1_000_000, seen.observed_at, o.observer, seen.node,
                 seen.origin)  # fmt: skip
        recipient = h.fee_recipient[2:] if h.fee_recipient.strip("0x") else None
        header = seen.header
    number, parent, status, block_time, observed_at, observer, node, origin = block
    return (o.chain, o.key, number, parent, status, block_time, observed_at, o.received_at, o.content_type, o.payload,
            observer, node, origin, o.server, o.remote, o.token, recipient, header)  # fmt: skip


def _observation(record: int, o: Offer, seen: wire.Observation) -> tuple[object, ...]:
    return record, o.observer, seen.node, o.server, seen.origin, seen.observed_at, o.received_at


def _transactions(o: Offer) -> list[tuple[object, ...]]:
    if not o.observation or not o.header:
        return []
    return [
        (o.chain, o.key, t.hash[2:], o.header.number, t.index, t.sender[2:], t.to and t.to[2:],
         t.value.to_bytes(32, "big"), t.gas_used, t.status, t.contract and t.contract[2:])
        for t in o.observation.transactions
    ]  # fmt: skip
