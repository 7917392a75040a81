"""Delivering what is in the spool: docs/WIRE.md from the client's side."""

from __future__ import annotations

import contextlib
import logging
import random
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from firstseen import wire
from firstseen.follow import Shared
from firstseen.netstring import Decoder, NetstringError, encode
from firstseen.spool import Entry, Spool

_DIAL_EACH: Final = 3.0  # seconds
_FIRST_PAUSE: Final = 0.25
_MOST_PAUSE: Final = 10.0
_TICK: Final = 0.05  # between looks for news of the spool while the socket says nothing
_BARE_WAIT: Final = 5.0

_log: Final = logging.getLogger("firstseen.client")


class LinkError(Exception):
    """A connection that was lost, or that must be given up."""


class StopError(Exception):
    """A server's final word."""


@dataclass(frozen=True)
class Options:
    """How an observer delivers; times in seconds."""

    name: str
    servers: Sequence[tuple[str, int]]
    bare: bool = False
    drain: float = 5.0
    raw: bool = False


def dial(servers: Sequence[tuple[str, int]], avoid: tuple[str, int] | None = None) -> socket.socket:
    """Connect to one of the servers, whose names are looked up now, in random order; the one to avoid comes last."""
    addresses: list[tuple[socket.AddressFamily, tuple[Any, ...]]] = []
    trouble = "no server"
    for host, port in servers:
        try:
            addresses += [(info[0], info[4]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
        except OSError as e:
            trouble = f"look up {host}: {e}"
    random.shuffle(addresses)
    addresses.sort(key=lambda a: a[1][:2] == avoid)
    for family, address in addresses:
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.settimeout(_DIAL_EACH)
        try:
            sock.connect(address)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if hasattr(socket, "TCP_USER_TIMEOUT"):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(wire.DEAD_AFTER * 1000))
            return sock
        except OSError as e:
            sock.close()
            trouble = f"connect to {address[0]!s}:{address[1]}: {e}"
    raise LinkError(trouble)


class Conversation:
    """One connection in relay mode, from HELLO to its end."""

    def __init__(self, sock: socket.socket, hello: wire.Hello) -> None:
        self._sock = sock
        self.peer: tuple[str, int] = sock.getpeername()[:2]
        self._decoder = Decoder(wire.MAX_FRAME)
        self._frames: deque[bytes] = deque()
        self._heard = time.monotonic()
        self._open: deque[tuple[Entry, int]] = deque()  # sent and not yet told, and how many bytes that was
        self._bytes = 0
        self._sent = self._mark = self._last = 0  # frames sent, frames told, seq sent last
        self.leaving = 0.0  # until when, once the server said G
        try:
            self._send(wire.hello(hello))
            self.welcome = self._greeting()
            self._raw = wire.CAP_RAW in hello.caps and wire.CAP_RAW in self.welcome.caps
        except BaseException:
            self.close()
            raise

    def _greeting(self) -> wire.Welcome:
        deadline = time.monotonic() + wire.WELCOME_TIMEOUT
        while not self._frames:
            if not self._poll(deadline - time.monotonic()) and time.monotonic() >= deadline:
                raise LinkError("the server does not speak relay mode, try --bare")
        content = self._frames.popleft()
        if content[:1] == b"E":
            self._fatal(content)
        return wire.parse_welcome(content)

    def close(self) -> None:
        """Close the connection."""
        self._sock.close()

    def _send(self, content: bytes) -> None:
        try:
            self._sock.settimeout(wire.DEAD_AFTER)
            self._sock.sendall(encode(content))
        except OSError as e:
            raise LinkError(f"send: {e}") from e

    def _poll(self, seconds: float) -> bool:
        """Take what has arrived, waiting so long at most; false if nothing has."""
        if not select.select([self._sock], [], [], max(0, seconds))[0]:
            if time.monotonic() - self._heard > wire.DEAD_AFTER:
                raise LinkError(f"no word for {wire.DEAD_AFTER:.0f}s")
            return False
        try:
            data = self._sock.recv(1 << 16)
        except OSError as e:
            raise LinkError(f"receive: {e}") from e
        if not data:
            raise LinkError("the server closed the connection")
        self._heard = time.monotonic()
        try:
            self._frames.extend(self._decoder.feed(data))
        except NetstringError as e:
            raise LinkError(str(e)) from e
        return True

    def listen(self, spool: Spool, seconds: float) -> None:
        """Take the frames that have arrived, waiting so long at most for the first."""
        if not self._frames:
            self._poll(seconds)
        while self._frames:
            content = self._frames.popleft()
            try:
                self._frame(content, spool)
            except wire.WireError as e:
                raise LinkError(f"the server broke a rule: {e.text}") from e

    def _frame(self, content: bytes, spool: Spool) -> None:
        match content[:1]:
            case b"A":
                n, flags = wire.parse_ack(content)
                if n != self._mark + len(flags) or n > self._sent:
                    raise LinkError(f"the server acknowledges {n} after {self._mark} of {self._sent}")
                self._mark = n
                spool.done([self._told() for _ in flags])
            case b"N":
                r = wire.parse_refusal(content)
                if r.n != self._mark + 1 or r.n > self._sent:
                    raise LinkError(f"the server refuses {r.n} after {self._mark} of {self._sent}")
                self._mark = r.n
                _log.error("a block was refused for good: %s %s", r.code, r.text)
                spool.bury(self._told(), r.code, r.text)
            case b"P":
                wire.parse_alone(content, b"P")
                self._send(b"O")
            case b"G":
                self.leaving = time.monotonic() + wire.parse_drain(content) / 1000
            case b"E":
                self._fatal(content)
            case _:
                if not wire.skippable(content):
                    raise LinkError("the server sent a frame of an unknown type")

    def _told(self) -> Entry:
        entry, size = self._open.popleft()
        self._bytes -= size
        return entry

    def _fatal(self, content: bytes) -> None:
        f = wire.parse_fatal(content)
        if f.retry:
            raise LinkError(f"the server says retry: {f.code} {f.text}")
        raise StopError(f"the server says stop: {f.code} {f.text}")

    @property
    def covered(self) -> bool:
        """Whether everything sent was told."""
        return not self._open

    def fill(self, spool: Spool) -> None:
        """Send what the window has room for."""
        w = self.welcome
        room = w.window_frames - len(self._open)
        for entry in spool.after(self._last, room) if room > 0 else []:
            content = entry.content
            if not self._raw or len(content) > w.max_frame:
                content = wire.without_raw(content)
            if self._open and self._bytes + len(content) > w.window_bytes:
                return
            self._send(content)
            self._open.append((entry, len(content)))
            self._bytes += len(content)
            self._sent += 1
            self._last = entry.seq

    def report(self, content: bytes) -> None:
        """Send an S."""
        self._send(content)

    def bye(self) -> None:
        """Leave in order."""
        with contextlib.suppress(LinkError, OSError):
            self._send(b"B")
            self._sock.shutdown(socket.SHUT_WR)
            self._sock.settimeout(2)
            while self._sock.recv(1 << 16):
                pass
        self.close()


class Link:
    """Keeps one connection while there is something to deliver."""

    def __init__(self, options: Options, spool: Spool, shared: Shared) -> None:
        self._o, self._spool, self._shared = options, spool, shared
        self._pause = _FIRST_PAUSE
        self._said: set[str] = set()
        self._end = 0.0  # when to give up delivering, once told to stop

    def run(self) -> None:
        """Deliver until told to stop, and then what is left for a while."""
        if self._o.bare:
            self._shared.welcomed.set()
        ahead: Conversation | None = None
        while not self._over():
            if not self._shared.named.wait(_TICK):
                continue
            try:
                if self._o.bare:
                    self._bare()
                else:
                    conversation, ahead = ahead or self._open(None), None
                    ahead = self._converse(conversation)
                self._pause = _FIRST_PAUSE
            except StopError as e:
                self._shared.failed = str(e)
                self._shared.stop.set()
                return
            except (LinkError, wire.WireError) as e:
                self._failed(str(e))
        if ahead:
            ahead.bye()

    def _over(self) -> bool:
        if not self._shared.stop.is_set():
            return False
        self._end = self._end or time.monotonic() + self._o.drain
        return self._spool.empty() or time.monotonic() > self._end or not self._shared.named.is_set()

    def _failed(self, why: str) -> None:
        """Log the first failure of its kind in an outage, and wait, longer each time."""
        if why not in self._said and len(self._said) < 16:
            self._said.add(why)
            _log.warning("connection lost or not made: %s", why)
        self._shared.stop.wait(random.uniform(0, self._pause) + 0.05)  # noqa: S311 - jitter
        if self._shared.stop.is_set():
            time.sleep(_TICK)
        self._pause = min(2 * self._pause, _MOST_PAUSE)

    def _open(self, avoid: tuple[str, int] | None) -> Conversation:
        caps = [wire.CAP_RAW] if self._o.raw else []
        hello = wire.Hello(self._o.name, [self._shared.chain], caps)
        conversation = Conversation(dial(self._o.servers, avoid), hello)
        w = conversation.welcome
        _log.info("relaying server=%s session=%s", w.server, w.session)
        if not self._shared.welcomed.is_set():
            self._shared.positions = w.chains
            self._shared.welcomed.set()
        return conversation

    def _converse(self, c: Conversation) -> Conversation | None:
        """Use a connection to its end. After G it returns one that was opened elsewhere meanwhile, if it could be."""
        opened: list[Conversation] = []
        opener: threading.Thread | None = None
        reported = 0.0
        try:
            while True:
                if self._over() or (self._shared.stop.is_set() and self._spool.empty()):
                    c.bye()
                    return None
                if c.leaving and opener is None:
                    opener = threading.Thread(target=self._open_ahead, args=(c.peer, opened), daemon=True)
                    opener.start()
                if c.leaving and (c.covered or time.monotonic() > c.leaving):
                    c.bye()
                    break
                if not c.leaving:
                    c.fill(self._spool)
                    if self._shared.reported != reported:
                        reported = self._shared.reported
                        c.report(self._shared.report)
                c.listen(self._spool, _TICK)
                self._said.clear()
        except LinkError:
            if opener is None:
                raise
        finally:
            c.close()
        if opener:
            opener.join()
        return opened[0] if opened else None

    def _open_ahead(self, avoid: tuple[str, int], into: list[Conversation]) -> None:
        with contextlib.suppress(LinkError, StopError, wire.WireError, OSError):
            into.append(self._open(avoid))

    def _bare(self) -> None:
        """Send payloads, each over a connection of its own, as an original server wants it. Nothing is promised."""
        entries = self._spool.after(0, 1)
        if not entries:
            self._spool.wait(_TICK)
            return
        _, _, payload = wire.without_raw(entries[0].content).partition(b"\n")
        with contextlib.closing(dial(self._o.servers)) as sock:
            try:
                sock.sendall(encode(payload))
                sock.shutdown(socket.SHUT_WR)
                sock.settimeout(_BARE_WAIT)
                while sock.recv(1 << 16):
                    pass
            except TimeoutError:
                pass  # it was taken, or nobody will ever know
            except OSError as e:
                raise LinkError(f"send: {e}") from e
        self._spool.done(entries)
