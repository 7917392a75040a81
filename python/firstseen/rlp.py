"""Recursive length prefix (Ethereum Yellow Paper, appendix B): only its canonical form."""

from __future__ import annotations

from typing import TypeAlias

Item: TypeAlias = "bytes | list[Item]"


class RLPError(ValueError):
    """Bytes that are not the canonical encoding of anything."""


def encode(item: Item) -> bytes:
    """Return the encoding of bytes or of a list, nested at will."""
    if isinstance(item, bytes):
        if len(item) == 1 and item[0] < 0x80:
            return item
        return _prefix(0x80, len(item)) + item
    body = b"".join(map(encode, item))
    return _prefix(0xC0, len(body)) + body


def _prefix(base: int, length: int) -> bytes:
    if length < 56:
        return bytes((base + length,))
    size = uint(length)
    return bytes((base + 55 + len(size),)) + size


def uint(number: int) -> bytes:
    """Return a number as big-endian bytes without leading zeros, which is how RLP holds it."""
    return number.to_bytes((number.bit_length() + 7) // 8, "big")


def decode_list(raw: bytes) -> list[bytes | None]:
    """Read one list; a member that is a list itself is given as None. Anything behind the list is an error."""
    start, end, is_list = _span(raw, 0)
    if not is_list or end != len(raw):
        raise RLPError("not one list")
    members: list[bytes | None] = []
    while start < end:
        first, start, nested = _span(raw, start)
        if start > end:
            raise RLPError("member is longer than its list")
        members.append(None if nested else raw[first:start])
    return members


def _span(raw: bytes, at: int) -> tuple[int, int, bool]:
    """Return where the item's content begins, where it ends, and whether it is a list."""
    if at >= len(raw):
        raise RLPError("ends early")
    tag = raw[at]
    if tag < 0x80:
        return at, at + 1, False
    is_list = tag >= 0xC0
    short = tag - (0xC0 if is_list else 0x80)
    start, length = at + 1, short
    if short > 55:
        start += short - 55
        size = raw[at + 1 : start]
        length = int.from_bytes(size, "big")
        if len(size) != short - 55 or size[0] == 0 or length < 56:
            raise RLPError("length is not canonical")
    if start + length > len(raw):
        raise RLPError("ends early")
    if not is_list and length == 1 and raw[start] < 0x80:
        raise RLPError("byte is not canonical")
    return start, start + length, is_list
