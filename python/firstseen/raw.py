"""The raw part of an observation: a block as its node showed it, with its receipts (docs/WIRE.md, "The raw part").

What is proved of one: it opens within bounds, its header hashes to the block's hash, and transactions, receipts and
logs name the block and their own places in it. What this implementation leaves out, and the Go one does: to encode and
hash transactions again, and to compute the roots over transactions, withdrawals and receipts.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Mapping
from typing import Any, Final

from firstseen import fields, header

MAX_RAW: Final = 32 << 20  # bytes after decompression
_MAX_NAMES: Final = 512
_MAX_DEPTH: Final = 64
_GZIP: Final = 16 + zlib.MAX_WBITS
_decoder: Final = json.JSONDecoder()


class RawError(ValueError):
    """A raw part that does not open, or that is not the block's."""


def pack(block: bytes, receipts: bytes | None) -> bytes:
    """Make a raw part of what a node answered, byte for byte."""
    text = b'{"block":%s,"receipts":%s}' % (block, b"null" if receipts is None else receipts)
    if len(text) > MAX_RAW:
        raise RawError(f"raw JSON above {MAX_RAW} bytes")
    packer = zlib.compressobj(wbits=_GZIP)
    return packer.compress(text) + packer.flush()


def unpack(packed: bytes) -> tuple[dict[str, Any], list[Any] | None]:
    """Open a raw part and return block and receipts; no more than MAX_RAW bytes are decompressed."""
    opener = zlib.decompressobj(wbits=_GZIP)
    try:
        text = opener.decompress(packed, MAX_RAW + 1)
    except zlib.error as e:
        raise RawError(f"raw part: {e}") from None
    if len(text) > MAX_RAW:
        raise RawError(f"raw JSON above {MAX_RAW} bytes")
    if not opener.eof or opener.unused_data:
        raise RawError("raw part: not one whole gzip member")
    try:
        obj = fields.parse(text.strip(b" \t\r\n"))
    except fields.FieldError as e:
        raise RawError(f"raw part: {e}") from None
    if obj.keys() != {"block", "receipts"}:
        raise RawError("raw part: not an object with block and receipts")
    block, receipts = obj["block"], obj["receipts"]
    if not isinstance(block, dict) or not isinstance(receipts, list | None):
        raise RawError("raw part: block is no object, or receipts are no list")
    return block, receipts


def verify(block_hash: str, block: Mapping[str, Any], receipts: list[Any] | None) -> None:
    """Hold a block and its receipts against the hash; raise RawError."""
    _check_names([block, receipts], {}, 0)
    try:
        head = header.decode(header.encode(block))
    except header.HeaderError as e:
        raise RawError(str(e)) from None
    if not head.hash == _lower(block.get("hash")) == block_hash:
        raise RawError(f"the header hashes to {head.hash}")
    transactions = block.get("transactions")
    if not isinstance(transactions, list):
        raise RawError("transactions are not a list")
    for i, t in enumerate(transactions):
        if not _placed(t, head, i) or not isinstance(t.get("hash"), str) or not isinstance(t.get("from"), str):
            raise RawError(f"transaction {i} is of another block or place, or lacks hash or sender")
    if receipts is None:
        return
    if len(receipts) != len(transactions):
        raise RawError(f"{len(receipts)} receipts for {len(transactions)} transactions")
    logs = 0
    for i, (r, t) in enumerate(zip(receipts, transactions, strict=True)):
        same = _placed(r, head, i) and _lower(r.get("transactionHash")) == _lower(t["hash"])
        if not same or _lower(r.get("from")) != _lower(t["from"]) or not isinstance(r.get("logs"), list):
            raise RawError(f"receipt {i} is of another block, transaction, place or sender, or has no logs")
        for entry in r["logs"]:
            if not _placed(entry, head, i) or _lower(entry.get("transactionHash")) != _lower(t["hash"]):
                raise RawError(f"receipt {i}: a log is of another block, transaction or place")
            if _number(entry.get("logIndex")) != logs or entry.get("removed"):
                raise RawError(f"receipt {i}: a log has another index, or is removed")
            logs += 1


def _placed(entry: object, head: header.Header, i: int) -> bool:
    """Tell whether a transaction, receipt or log says that it is of the block's i-th transaction."""
    return (
        isinstance(entry, dict)
        and _lower(entry.get("blockHash")) == head.hash
        and _number(entry.get("blockNumber")) == head.number
        and _number(entry.get("transactionIndex")) == i
    )


def _lower(value: object) -> str | None:
    return value.lower() if isinstance(value, str) else None


def _number(value: object) -> int | None:
    if not isinstance(value, str) or not re.fullmatch(r"0x[0-9A-Fa-f]{1,16}", value):
        return None
    return int(value, 16)


def _check_names(value: object, written: dict[str, str], depth: int) -> None:
    """Make sure that everybody who reads the JSON reads the same: no two names differ in case only."""
    if depth > _MAX_DEPTH:
        raise RawError("nested too deep")
    if isinstance(value, dict):
        for name in value:
            if written.setdefault(name.lower(), name) != name:
                raise RawError("two names that differ in case only")
        if len(written) > _MAX_NAMES:
            raise RawError(f"members of more than {_MAX_NAMES} names")
        value = list(value.values())
    elif isinstance(value, list) and depth > 0 and None in value:
        raise RawError("null in a list")
    if isinstance(value, list):
        for element in value:
            if isinstance(element, dict | list):
                _check_names(element, written, depth + 1)


def member(answer: bytes, name: str) -> bytes | None:
    """Return the bytes of a member of a JSON object as they stand in it; None if it has none. The JSON must be good."""
    text = answer.decode()
    at = _skip(text, text.index("{") + 1)
    while text[at] == '"':
        key, at = _decoder.raw_decode(text, at)
        at = _skip(text, _skip(text, at) + 1)  # the colon
        _, end = _decoder.raw_decode(text, at)
        if key == name:
            return text[at:end].encode()
        at = _skip(text, end)
        if text[at] == ",":
            at = _skip(text, at + 1)
    return None


def _skip(text: str, at: int) -> int:
    while text[at] in " \t\r\n":
        at += 1
    return at
