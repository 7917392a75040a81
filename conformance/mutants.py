"""Planted faults: a proxy that spoils a good server in one way, to show that the checks notice.

It stands between the runner and the server that it starts; each connection is copied frame by frame by two threads.
"""

from __future__ import annotations

import contextlib
import json
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from conformance.peer import frame

# Fault: the check that must miss it.
FAULTS = {
    "acks before the commit": "acks: never before the commit",
    "answers a bare client": "bare: silence",
    "accepts 03:abc,": "framing: netstrings good and bad, bare mode",
    "miscounts after a refusal": "acks: cumulative, in order, after refusals too",
    "forgets what it acked": "acks: what was acked outlives kill -9",
    "serves a second first": "acks: one first per block, whoever sends it",
    "throws raw parts away": "data: raw parts, good and bad",
}
NOTHING = "nothing"
SLUGS = {re.sub(r"[^a-z0-9]+", "-", fault).strip("-"): fault for fault in (NOTHING, *FAULTS)}


@dataclass
class Link:
    """One spoiled connection."""

    fault: str
    client: socket.socket
    server: socket.socket
    relay: bool | None = None
    sent: int = 0  # data frames
    shift: int = 0  # by which marks are wrong
    lock: threading.Lock = field(default_factory=threading.Lock)

    def up(self, content: bytes) -> Iterator[tuple[socket.socket, bytes]]:
        """Yield what a frame of the client becomes."""
        if self.relay is None:
            self.relay = content.startswith(b"<!--firstseen/")
        if not self.relay and self.fault == "answers a bare client":
            yield self.client, frame(b"A1 f")
        if self.relay and content[:1] == b"D":
            self.sent += 1
            if self.fault == "acks before the commit":
                yield self.client, frame(b"A%d f" % self.sent)
            if self.fault == "forgets what it acked" and self.sent % 10 == 0:
                yield self.client, frame(b"A%d f" % self.sent)
                return
            if self.fault == "throws raw parts away":
                content = _without_raw(content)
        yield self.server, frame(content)

    def down(self, content: bytes) -> Iterator[tuple[socket.socket, bytes]]:
        """Yield what a frame of the server becomes."""
        kind = content[:1]
        if self.fault == "acks before the commit" and kind in b"AN":
            return
        if self.fault == "miscounts after a refusal" and kind in b"AN":
            number, _, rest = content[1:].partition(b" ")
            content = b"%b%d %b" % (kind, int(number) - self.shift, rest)
            self.shift += kind == b"N"
        if self.fault == "serves a second first" and kind == b"A":
            content = content.replace(b"d", b"f")
        yield self.client, frame(content)

    def serve(self) -> None:
        """Copy both ways until both have ended."""
        back = threading.Thread(target=self._copy, args=(self.server, self.client, self.down), daemon=True)
        back.start()
        self._copy(self.client, self.server, self.up)
        back.join()
        self.client.close()
        self.server.close()

    def _copy(
        self,
        source: socket.socket,
        sink: socket.socket,
        spoil: Callable[[bytes], Iterator[tuple[socket.socket, bytes]]],
    ) -> None:
        buffer = b""
        with contextlib.suppress(OSError):
            while chunk := source.recv(1 << 16):
                buffer += chunk
                try:
                    while (cut := self._cut(buffer)) is not None:
                        content, buffer = cut
                        for to, data in spoil(content):
                            with self.lock:
                                to.sendall(data)
                except ValueError:  # the server shall see it as it is
                    sink.sendall(buffer)
                    buffer = b""
            sink.sendall(buffer)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def _cut(self, buffer: bytes) -> tuple[bytes, bytes] | None:
        zeros = rb"0*" if self.fault == "accepts 03:abc," else rb""
        match = re.match(rb"%b(0|[1-9]\d{0,6}):" % zeros, buffer)
        if match is None:
            if re.fullmatch(rb"%b([1-9]\d{0,6})?|0" % zeros, buffer):
                return None
            raise ValueError
        end = match.end() + int(match[1])
        if end >= len(buffer) and int(match[1]) <= 4 << 20:
            return None
        if buffer[end : end + 1] != b",":
            raise ValueError
        return buffer[match.end() : end], buffer[end + 1 :]


def _without_raw(content: bytes) -> bytes:
    text, _, rest = content.partition(b"\n")
    meta = json.loads(text[1:])
    size = meta.pop("raw", 0)
    return b"D" + json.dumps(meta).encode() + b"\n" + rest[: len(rest) - size]


def main(slug: str, address: str, inner: str, command: list[str]) -> int:
    """Start the server on inner and spoil what goes through address until told to end."""
    child = subprocess.Popen(command)  # noqa: S603 - the command is the user's own
    host, _, port = address.rpartition(":")
    ready = threading.Event()

    def upstream() -> socket.socket:
        while child.poll() is None:
            with contextlib.suppress(OSError):
                return socket.create_connection(("127.0.0.1", int(inner)))
            ready.wait(0.05)
        raise SystemExit(child.returncode)

    upstream().close()
    listener = socket.create_server((host, int(port)), backlog=128)
    signal.signal(signal.SIGTERM, lambda *_: child.terminate())

    def serve(client: socket.socket) -> None:
        Link(SLUGS[slug], client, upstream()).serve()

    def accept() -> None:
        while True:
            client, _ = listener.accept()
            threading.Thread(target=serve, args=(client,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return child.wait()


def wrap(slug: str, command: str) -> str:
    """Return the command line of a server spoiled so."""
    inner = command.replace("{address}", "127.0.0.1:{inner}")
    return f"{sys.executable} -m conformance mutant {slug} {{address}} {{inner}} {inner}"
