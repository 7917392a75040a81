"""What happened, over HTTP: the original demo's pages and the totals, from the tables.

The pages are byte for byte those of the Go implementation. Of /v1/stats the totals are the same; rates and connection
counts are left to it.
"""

from __future__ import annotations

import html
import json
import logging
import re
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.parse import urlsplit

from sqlalchemy.exc import SQLAlchemyError

from firstseen.database import Database, DatabaseError

_HASHES: Final = 100
_CLIENTS: Final = 10_000
_AT_ONCE: Final = 64  # requests; further ones wait in the kernel's queue
_PATIENCE: Final = 10.0  # seconds for a client's request
_EXACT: Final = 2**53
_TEXT: Final = "text/plain; charset=utf-8"
_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; "
    "form-action 'none'; sandbox",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}

_log: Final = logging.getLogger("firstseen.stats")


class Answer(Exception):  # noqa: N818 - some are no errors
    """What is answered instead of a page."""

    def __init__(self, status: int, body: bytes, content_type: str = _TEXT, **headers: str) -> None:
        super().__init__(status)
        self.status, self.body, self.content_type, self.headers = status, body, content_type, headers


def problem(status: int, title: str, detail: str) -> Answer:
    """Return an answer of RFC 9457."""
    body = json.dumps({"title": title, "status": status, "detail": detail}).encode() + b"\n"
    return Answer(status, body, "application/problem+json")


class Stats:
    """The pages."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self._turn = threading.Lock()  # guards the totals, so that one request at a time counts
        self._totals: dict[str, Any] = {}
        self._stale = 0.0

    def answer(self, path: str) -> Answer:
        """Return the answer to a GET."""
        pages: dict[str, Callable[[], Answer]] = {
            "/": lambda: Answer(302, b"", Location="/_cat"),
            "/livez": lambda: Answer(200, b"ok\n"),
            "/readyz": self._ready,
            "/_cat": lambda: Answer(200, b"=^.^=\n/_cat/hashes\n/_cat/hashes/{hash}\n/_cat/clients\n"),
            "/_cat/hashes": self._hashes,
            "/_cat/clients": self._clients,
            "/v1/stats": self._stats,
        }
        if path in pages:
            return pages[path]()
        if match := re.fullmatch(r"/_cat/hashes/([^/]+)", path):
            return self._payload(match[1])
        return problem(404, "Not Found", f"nothing is served at {path[:100]}")

    def _ready(self) -> Answer:
        try:
            self._db.check()
        except DatabaseError as e:
            return Answer(503, f"database: {e}\n".encode())
        return Answer(200, b"ok\n")

    def _hashes(self) -> Answer:
        rows = self._db.query(
            "SELECT `key`, received_at FROM records ORDER BY received_at DESC, id DESC LIMIT ?", (_HASHES,)
        )
        lines = [f"{'hash':<64} timestamp"]
        lines += [f"{key} {at // 1_000_000}.{at % 1_000_000 // 100:04d}" for key, at in rows]
        return Answer(200, ("\n".join(lines) + "\n").encode())

    def _clients(self) -> Answer:
        rows = self._db.query("SELECT ip, count FROM clients ORDER BY ip LIMIT ?", (_CLIENTS,))
        width = max([len("client"), *(len(ip) for ip, _ in rows)])
        lines = [f"{'client':<{width}} count"] + [f"{ip:<{width}} {count}" for ip, count in rows]
        return Answer(200, ("\n".join(lines) + "\n").encode())

    def _payload(self, text: str) -> Answer:
        """Answer a record's payload. Of a hash on several chains it takes the lowest."""
        digits = re.fullmatch(r"(?:0[xX])?([0-9A-Fa-f]{64})", text)
        if digits is None:
            return Answer(404, b"Hash not found\n")
        chains = [0, *(row[0] for row in self._db.query("SELECT chain FROM chains"))]
        places = ",".join("?" * len(chains))
        query = f"SELECT payload, payload_pruned_at FROM records WHERE chain IN ({places}) AND `key` = ? ORDER BY chain"  # noqa: S608
        rows = self._db.query(query, (*chains, digits[1].lower()))
        if not rows:
            return Answer(404, b"Hash not found\n")
        payload, pruned = rows[0]
        if pruned is not None:
            day = datetime.fromtimestamp(pruned / 1e6, UTC).date()
            return Answer(410, f"payload is not kept any more, on {day}\n".encode())
        return Answer(200, bytes(payload))

    def _stats(self) -> Answer:
        with self._turn:
            if (began := time.monotonic()) >= self._stale:
                self._totals = self._count()
                # Counting reads whole indexes: at most a tenth of one connection goes into it.
                self._stale = time.monotonic() + 10 * (time.monotonic() - began)
            body = {"time": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"), **self._totals}
        return Answer(200, json.dumps(body).encode() + b"\n", "application/json")

    def _count(self) -> dict[str, Any]:
        blocks = dict[int, int](self._db.query("SELECT chain, COUNT(*) FROM records GROUP BY chain"))
        bare = blocks.pop(0, 0)
        ((transactions,),) = self._db.query("SELECT COUNT(*) FROM transactions")
        ((observations,),) = self._db.query("SELECT COUNT(*) FROM observations")
        ((seq,),) = self._db.query("SELECT last_seq FROM feed_counter")
        first = "SELECT {0}, COUNT(*) FROM records WHERE {0} IS NOT NULL GROUP BY {0} ORDER BY {0}"
        total = sum(blocks.values())
        return {
            "records": total + bare,
            "blocks": total,
            "bare": bare,
            "transactions": transactions,
            "observations": observations,
            "duplicates": max(observations, total) - total,
            "feed_seq": seq,
            "chains": self._chains(blocks),
            "servers": [{"server": s, "records": n} for s, n in self._db.query(first.format("server"))],
            "observers": [{"observer": o, "first": n} for o, n in self._db.query(first.format("observer"))],
            "connections": {"total": None, "known": False, "reason": "counted by the Go implementation's stats only"},
        }

    def _chains(self, blocks: dict[int, int]) -> list[dict[str, Any]]:
        columns = "chain, root_number, root_key, head_number, head_key, safe_number, finalized_number, halted"
        rows = self._db.query(f"SELECT {columns} FROM chains ORDER BY chain")  # noqa: S608 - a constant
        return [
            {
                "chain": _number(chain),
                "blocks": blocks.get(chain, 0),
                "root": {"number": _number(root), "hash": "0x" + root_key},
                "head": {"number": _number(head), "hash": "0x" + head_key},
                "safe": _number(safe),
                "finalized": _number(final),
                "halted": halted,
            }
            for chain, root, root_key, head, head_key, safe, final, halted in rows
        ]


def _number(n: int | None) -> int | str | None:
    """Write a number as JSON can hold it exactly: above 2^53 as a string."""
    return str(n) if n is not None and n > _EXACT else n


class HTTP(ThreadingHTTPServer):
    """Serves the pages."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], stats: Stats) -> None:
        self.stats = stats
        self._slots = threading.Semaphore(_AT_ONCE)
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Implement ThreadingMixIn, with a bound."""
        self._slots.acquire()
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Implement ThreadingMixIn."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._slots.release()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - the base class's signature
        """Log what a handler could not cope with; a client that has gone is nobody's concern."""
        _log.debug("request failed", exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    server: HTTP
    timeout = _PATIENCE
    server_version, sys_version = "firstseen", ""

    def do_GET(self) -> None:
        try:
            answer = self.server.stats.answer(urlsplit(self.path).path)
        except SQLAlchemyError as e:
            _log.warning("cannot answer %s: %s", html.escape(self.path[:100]), " ".join(str(e).split()))
            answer = problem(503, "Service Unavailable", "the database does not answer")
        self.send_response(answer.status)
        headers = {"Content-Type": answer.content_type, "Content-Length": str(len(answer.body))}
        for name, value in (_HEADERS | headers | answer.headers).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    do_HEAD = do_GET  # noqa: N815 - the base class's way

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        _log.debug(format, *args)
