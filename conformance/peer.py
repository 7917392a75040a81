"""A socket that speaks in frames, and what the rules of order allow to come over it."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import time
from typing import Any

PATIENCE = 30.0  # seconds; generous, because machines are busy


class Miss(Exception):  # noqa: N818 - what a check finds is no error of the program
    """What the other side did otherwise than docs/WIRE.md has it."""


def frame(content: bytes) -> bytes:
    """Return content as a netstring."""
    return b"%d:%b," % (len(content), content)


def want(condition: object, otherwise: str) -> None:
    """Miss unless the condition holds."""
    if not condition:
        raise Miss(otherwise)


def shown(content: bytes) -> str:
    """Return the beginning of what was sent, for people."""
    return repr(content[:100])[1:] + ("..." if len(content) > 100 else "")


class Peer:
    """One connection, from either side."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._buffer = b""

    def close(self) -> None:
        """Close it."""
        self.sock.close()

    def send(self, *contents: bytes) -> None:
        """Send frames."""
        self.raw(b"".join(map(frame, contents)))

    def raw(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.sock.settimeout(PATIENCE)
        try:
            self.sock.sendall(data)
        except OSError as e:
            raise Miss(f"cannot send: {e}") from None

    def half_close(self) -> None:
        """Close the sending side."""
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_WR)

    def read(self, within: float = PATIENCE) -> bytes | None:
        """Return the next frame's content, None at the end of the stream."""
        deadline = time.monotonic() + within
        while (content := self._cut()) is None:
            chunk = self._more(deadline)
            if not chunk:
                want(not self._buffer, f"stream ends inside a frame: {shown(self._buffer)}")
                return None
            self._buffer += chunk
        return content

    def _more(self, deadline: float) -> bytes:
        self.sock.settimeout(max(0.001, deadline - time.monotonic()))
        try:
            return self.sock.recv(1 << 20)
        except TimeoutError:
            raise Miss("nothing came in time") from None
        except OSError as e:
            raise Miss(f"connection was reset: {e}") from None

    def _cut(self) -> bytes | None:
        header, colon, rest = self._buffer.partition(b":")
        if not colon:
            want(re.fullmatch(rb"\d{0,10}", header), f"no netstring: {shown(self._buffer)}")
            return None
        want(re.fullmatch(rb"0|[1-9]\d{0,9}", header), f"no netstring: {shown(self._buffer)}")
        size = int(header)
        if len(rest) <= size:
            return None
        want(rest[size] == ord(","), f"no comma behind {shown(rest[:size])}")
        self._buffer = rest[size + 1 :]
        return rest[:size]

    def expect(self, what: str, within: float = PATIENCE) -> bytes:
        """Return the next frame's content, which must come."""
        try:
            content = self.read(within)
        except Miss as e:
            raise Miss(f"{what}: {e}") from None
        if content is None:
            raise Miss(f"{what}: the connection ended")
        return content

    def expect_end_or_frame(self, within: float = PATIENCE) -> bytes | None:
        """Return the next frame's content; None at the stream's end, a reset included."""
        try:
            return self.read(within)
        except Miss as e:
            if "reset" in str(e):
                return None
            raise

    def quiet(self, seconds: float, what: str) -> None:
        """Miss if anything comes within so many seconds; the end of the stream is no word."""
        self.sock.settimeout(seconds)
        try:
            chunk = self._buffer or self.sock.recv(1 << 16)
        except TimeoutError:
            return
        except OSError as e:
            raise Miss(f"{what}: {e}") from None
        want(not chunk, f"{what}: {shown(chunk)}")

    def end(self, what: str = "the end", within: float = PATIENCE) -> None:
        """Miss unless the stream ends now, without another byte and without a reset."""
        try:
            content = self.read(within)
        except Miss as e:
            raise Miss(f"{what}: {e}") from None
        want(content is None, f"{what}: said more: {shown(content or b'')}")


def parse_json(text: bytes) -> dict[str, Any]:
    """Read one JSON object, strictly."""

    def pairs(members: list[tuple[str, Any]]) -> dict[str, Any]:
        want(len(dict(members)) == len(members), f"a name occurs twice in {shown(text)}")
        return dict(members)

    try:
        value = json.loads(text.decode(), object_pairs_hook=pairs)
    except ValueError as e:
        raise Miss(f"no JSON: {e}: {shown(text)}") from None
    if not isinstance(value, dict):
        raise Miss(f"no JSON object: {shown(text)}")
    return value


class Ledger:
    """Keeps account of what a server tells of the data frames that were sent to it: rules 3 to 5 of the order."""

    def __init__(self) -> None:
        self.sent = 0
        self.told: list[str] = []  # f, d, or the code of a refusal

    def take(self, content: bytes) -> None:
        """Take an A or N frame."""
        if match := re.fullmatch(rb"A([1-9]\d*) ([fd]+)", content):
            self.told += match[2].decode()
        elif match := re.fullmatch(rb"N([1-9]\d*) ([a-z0-9_]{1,32}) (.*)", content, re.DOTALL):
            self.told.append(match[2].decode())
        else:
            raise Miss(f"neither A nor N: {shown(content)}")
        mark = int(match[1])
        want(mark == len(self.told), f"{shown(content)} where the mark becomes {len(self.told)}")
        want(mark <= self.sent, f"{shown(content)} after {self.sent} frames")


_LIMITS = ("window_frames", "window_bytes", "max_frame", "ping_ms", "dead_ms")


class Relay(Peer):
    """A client in relay mode."""

    def __init__(self, sock: socket.socket, observer: str = "conformance-1", caps: tuple[str, ...] = ()) -> None:
        super().__init__(sock)
        self.ledger = Ledger()
        hello = json.dumps({"observer": observer, "chains": [1], "caps": caps})
        self.send(b"<!--firstseen/1 " + hello.encode() + b"-->")
        content = self.expect("W")
        want(content[:1] == b"W", f"want W first, got {shown(content)}")
        self.welcome = parse_json(content[1:])
        for name in ("server", "session"):
            want(re.fullmatch(r"[A-Za-z0-9._-]{1,64}", str(self.welcome.get(name))), f"W without {name}")
        for name in _LIMITS:
            limit = self.welcome.get(name)
            want(isinstance(limit, int) and limit > 0, f"W without {name}")

    def offer(self, *contents: bytes) -> None:
        """Send data frames, reading what comes whenever the window is full."""
        for content in contents:
            while self.ledger.sent - len(self.ledger.told) >= self.welcome["window_frames"]:
                self.listen()
            self.ledger.sent += 1
            self.send(content)

    def listen(self) -> None:
        """Take one frame."""
        content = self.expect("A or N")
        if content == b"P":
            self.send(b"O")
        else:
            self.ledger.take(content)

    def settle(self) -> list[str]:
        """Wait until everything is told and return the outcomes."""
        while len(self.ledger.told) < self.ledger.sent:
            self.listen()
        return self.ledger.told

    def bye(self) -> None:
        """Leave in order."""
        self.send(b"B")
        self.end("end behind B")
        self.close()
