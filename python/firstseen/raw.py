"""The raw part of an observation: a block as its node showed it, with its receipts (docs/WIRE.md, "The raw part").

What is proved of one: it opens within bounds, its header hashes to the block's hash, transactions, withdrawals and
receipts are those under the header's roots, and each of them names the block and its own place in it.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, Final

from firstseen import fields, header, roots

MAX_RAW: Final = 32 << 20  # bytes after decompression
_MAX_NAMES: Final = 512
_MAX_DEPTH: Final = 64
_MAX_WITHDRAWALS: Final = 1 << 12
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
        if not head.hash == _lower(block.get("hash")) == block_hash:
            raise RawError(f"the header hashes to {head.hash}")
        transactions = _transactions(block, head)
        known = _check_roots(block, transactions)
        if receipts is not None:
            _check_receipts(block, head, transactions, receipts, known)
    except (header.HeaderError, roots.MalformedError) as e:
        raise RawError(str(e)) from None


def _transactions(block: Mapping[str, Any], head: header.Header) -> list[dict[str, Any]]:
    transactions = block.get("transactions")
    if not isinstance(transactions, list):
        raise RawError("transactions are not a list")
    for i, t in enumerate(transactions):
        if not _placed(t, head, i) or not isinstance(t.get("hash"), str) or not isinstance(t.get("from"), str):
            raise RawError(f"transaction {i} is of another block or place, or lacks hash or sender")
    return transactions


def _check_roots(block: Mapping[str, Any], transactions: Sequence[Mapping[str, Any]]) -> bool:
    """Compare what the block's lists hash to; false if there are transactions of types that are not known."""
    withdrawals = block.get("withdrawals") or []
    if not isinstance(withdrawals, list) or len(withdrawals) > _MAX_WITHDRAWALS:
        raise RawError("withdrawals are no list, or too many")
    if roots.root([roots.withdrawal(w) for w in withdrawals]) != _lower(block.get("withdrawalsRoot") or roots.EMPTY):
        raise RawError("withdrawals: not those of the header")
    if bool(block.get("uncles")) == (_lower(block["sha3Uncles"]) == roots.NO_UNCLES):
        raise RawError("uncles: not those of the header")
    encoded = []
    for i, t in enumerate(transactions):
        try:
            encoded.append(roots.transaction(t))
        except roots.UnknownTypeError:
            return False
        if "0x" + header.keccak256(encoded[-1]).hex() != _lower(t["hash"]):
            raise RawError(f"transaction {i} is not {t['hash']}")
    if roots.root(encoded) != _lower(block["transactionsRoot"]):
        raise RawError("transactions: not those of the header")
    return True


def _check_receipts(
    block: Mapping[str, Any], head: header.Header, transactions: Sequence[Mapping[str, Any]], receipts: list[Any],
    known: bool,
) -> None:  # fmt: skip
    if len(receipts) != len(transactions):
        raise RawError(f"{len(receipts)} receipts for {len(transactions)} transactions")
    logs = gas = 0
    for i, (r, t) in enumerate(zip(receipts, transactions, strict=True)):
        if not _placed(r, head, i) or _lower(r.get("transactionHash")) != _lower(t["hash"]):
            raise RawError(f"receipt {i} is of another block, transaction or place")
        if _lower(r.get("from")) != _lower(t["from"]):
            raise RawError(f"receipt {i} is of another sender")
        if not known:
            continue
        before, gas = gas, _number(r.get("cumulativeGasUsed")) or 0
        if gas - before != _number(r.get("gasUsed")) or (_number(r.get("type")) or 0) != (_number(t.get("type")) or 0):
            raise RawError(f"receipt {i} has another type, or gas used that is not what it adds to those before")
        logs = _check_logs(i, r, head, logs)
    if known and roots.root([roots.receipt(r) for r in receipts]) != _lower(block["receiptsRoot"]):
        raise RawError("receipts: not those of the header")


def _check_logs(i: int, r: Mapping[str, Any], head: header.Header, first: int) -> int:
    """Check the logs of the i-th receipt, which count from first, and return where those of the next do."""
    if not isinstance(r.get("logs"), list):
        raise RawError(f"receipt {i} has no logs")
    for n, entry in enumerate(r["logs"], first):
        if not _placed(entry, head, i) or _lower(entry.get("transactionHash")) != _lower(r["transactionHash"]):
            raise RawError(f"receipt {i}: a log is of another block, transaction or place")
        if _number(entry.get("logIndex")) != n or entry.get("removed"):
            raise RawError(f"receipt {i}: a log has another index, or is removed")
    return first + len(r["logs"])


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
