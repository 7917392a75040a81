"""Netstrings (D. J. Bernstein, "Netstrings", 1997), strict: the first byte that breaks the form is an error.

netstring/testdata/vectors.json pins down what is accepted and where it fails.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal

Kind = Literal["length", "leading_zero", "too_large", "comma", "truncated"]

_WHY: Final[dict[Kind, str]] = {
    "length": "length is not a decimal number",
    "leading_zero": "length has a leading zero",
    "too_large": "length exceeds the maximum",
    "comma": "no comma after the content",
    "truncated": "stream ends inside a frame",
}
_ZERO, _NINE, _COLON, _COMMA = b"09:,"


class NetstringError(Exception):
    """A stream that is no longer a sequence of netstrings. Offset counts from the stream's first byte."""

    def __init__(self, kind: Kind, offset: int) -> None:
        super().__init__(f"netstring: byte {offset}: {_WHY[kind]}")
        self.kind: Kind = kind
        self.offset = offset


def encode(content: bytes) -> bytes:
    """Return content as one frame."""
    return b"%d:%b," % (len(content), content)


class Decoder:
    """Takes a stream in pieces and hands out the contents of its frames.

    A length above maximum is refused before anything of that size is kept, so the decoder never holds more than one
    content, its length and the piece that was fed last.
    """

    def __init__(self, maximum: int) -> None:
        self._maximum = maximum
        self._buffer = bytearray()
        self._start = 0  # of what is not handed out yet, in the buffer
        self._base = 0  # offset in the stream of the buffer's first byte
        self._length = -1  # of the frame whose header has been read; -1 before its colon
        self._digits = 0  # of that length so far
        self._value = 0
        self._broken: NetstringError | None = None

    @property
    def begun(self) -> bool:
        """Whether a frame has begun and is not complete."""
        return len(self._buffer) > self._start or self._digits > 0 or self._length >= 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield the frames that data completes; raise NetstringError at the first wrong byte, and ever after."""
        if self._broken is not None:
            raise self._broken
        self._buffer += data
        while (content := self._next()) is not None:
            yield content
        del self._buffer[: self._start]
        self._base += self._start
        self._start = 0

    def end(self) -> None:
        """Say that the stream has ended; raise NetstringError if that is inside a frame."""
        if self._broken is not None:
            raise self._broken
        if self.begun:
            raise self._fail("truncated", len(self._buffer))

    def _next(self) -> bytes | None:
        if self._length < 0 and not self._header():
            return None
        end = self._start + self._length
        if len(self._buffer) <= end:
            return None
        if self._buffer[end] != _COMMA:
            raise self._fail("comma", end)
        content = bytes(self._buffer[self._start : end])
        self._start, self._length = end + 1, -1
        return content

    def _header(self) -> bool:
        """Read digits up to the colon; false if it has not arrived."""
        while self._start < len(self._buffer):
            byte = self._buffer[self._start]
            if byte == _COLON and self._digits:
                self._start += 1
                self._length, self._digits, self._value = self._value, 0, 0
                return True
            if not _ZERO <= byte <= _NINE:
                raise self._fail("length", self._start)
            if self._digits and not self._value:
                raise self._fail("leading_zero", self._start)
            self._value = self._value * 10 + byte - _ZERO
            self._digits += 1
            if self._value > self._maximum:
                raise self._fail("too_large", self._start)
            self._start += 1
        return False

    def _fail(self, kind: Kind, at: int) -> NetstringError:
        self._broken = NetstringError(kind, self._base + at)
        return self._broken
