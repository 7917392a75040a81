"""Blocks that prove themselves: enough of Keccak and RLP to make headers whose hashes are right."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any

_ROUNDS = []
_lfsr = 1
for _ in range(24):
    _constant = 0
    for _bit in range(7):
        if _lfsr & 1:
            _constant |= 1 << ((1 << _bit) - 1)
        _lfsr = (_lfsr << 1) ^ (0x171 if _lfsr & 0x80 else 0)
    _ROUNDS.append(_constant)
_MASK = 2**64 - 1

# Where each lane goes (rho and pi), and by how many bits it is rotated; lane x, y is at 5y + x.
_MOVES: list[tuple[int, int, int]] = [(0, 0, 0)]
_x, _y = 1, 0
for _t in range(24):
    _to = _y, (2 * _x + 3 * _y) % 5
    _MOVES.append((5 * _y + _x, 5 * _to[1] + _to[0], (_t + 1) * (_t + 2) // 2 % 64))
    _x, _y = _to


def _permute(a: list[int]) -> list[int]:
    b = [0] * 25
    for constant in _ROUNDS:
        c = [a[x] ^ a[x + 5] ^ a[x + 10] ^ a[x + 15] ^ a[x + 20] for x in range(5)]
        d = [c[x - 1] ^ ((c[x - 4] << 1 | c[x - 4] >> 63) & _MASK) for x in range(5)]
        for source, to, by in _MOVES:
            lane = a[source] ^ d[source % 5]
            b[to] = (lane << by | lane >> (64 - by)) & _MASK
        for y in (0, 5, 10, 15, 20):
            e, f, g, h, i = b[y : y + 5]
            a[y : y + 5] = e ^ (~f & g), f ^ (~g & h), g ^ (~h & i), h ^ (~i & e), i ^ (~e & f)
        a[0] ^= constant
    return a


def keccak256(data: bytes) -> bytes:
    """Keccak-256 as Ethereum has it, padded with 0x01; The Keccak reference, version 3.0."""
    rate = 136
    padded = bytearray(data + b"\x01" + bytes(-(len(data) + 1) % rate))
    padded[-1] |= 0x80
    a = [0] * 25
    for at in range(0, len(padded), rate):
        for i in range(rate // 8):
            a[i] ^= int.from_bytes(padded[at + 8 * i : at + 8 * i + 8], "little")
        a = _permute(a)
    return b"".join(lane.to_bytes(8, "little") for lane in a[:4])


def _rlp(item: bytes | list[bytes]) -> bytes:
    if isinstance(item, bytes):
        if len(item) == 1 and item[0] < 0x80:
            return item
        return _sized(0x80, len(item)) + item
    body = b"".join(map(_rlp, item))
    return _sized(0xC0, len(body)) + body


def _sized(base: int, length: int) -> bytes:
    if length < 56:
        return bytes((base + length,))
    size = _number(length)
    return bytes((base + 55 + len(size),)) + size


def _number(n: int) -> bytes:
    return n.to_bytes((n.bit_length() + 7) // 8, "big")


_UNCLES = bytes.fromhex("1dcc4de8dec75d7aab85b567b6ccd41ad312451b948a7413f0a142fd40d49347")
_EMPTY = bytes.fromhex("56e81f171bcc55a6ff8345e692c0f86e5b48e01b996cadc001622fb5e363b421")


@dataclass(frozen=True)
class Block:
    """A block without transactions. Salt makes another one of the same height."""

    number: int
    parent: str = "0x" + "00" * 32
    salt: bytes = b""
    chain: int = field(default=1, kw_only=True)

    @cached_property
    def fields(self) -> dict[str, bytes]:
        """The header's fields by their names in JSON-RPC, in the order of the RLP."""
        return {
            "parentHash": bytes.fromhex(self.parent[2:]),
            "sha3Uncles": _UNCLES,
            "miner": bytes(20),
            "stateRoot": bytes(32),
            "transactionsRoot": _EMPTY,
            "receiptsRoot": _EMPTY,
            "logsBloom": bytes(256),
            "difficulty": b"",
            "number": _number(self.number),
            "gasLimit": _number(30_000_000),
            "gasUsed": b"",
            "timestamp": _number(1_700_000_000 + 12 * self.number),
            "extraData": self.salt,
            "mixHash": bytes(32),
            "nonce": bytes(8),
            "baseFeePerGas": _number(7),
        }

    @cached_property
    def header(self) -> bytes:
        """The header's RLP."""
        return _rlp(list(self.fields.values()))

    @cached_property
    def hash(self) -> str:
        """The block's hash, behind 0x."""
        return "0x" + keccak256(self.header).hex()

    @property
    def key(self) -> str:
        """The key of the block's record."""
        return self.hash[2:]

    @property
    def payload(self) -> bytes:
        """What an observer might render of it."""
        return b"<p>%d</p>\n" % self.number

    def meta(self, **changed: Any) -> dict[str, Any]:
        """The JSON of an observation."""
        return {
            "chain": self.chain,
            "header": "0x" + self.header.hex(),
            "hash": self.hash,
            "node": "node-1",
            "observed_at": "2026-01-02T03:04:05.678Z",
            "content_type": "text/html",
            "origin": "head",
            "transactions": [],
        } | changed

    def data(self, payload: bytes | None = None, **changed: Any) -> bytes:
        """The content of a D frame."""
        text = json.dumps(self.meta(**changed)).encode()
        return b"D" + text + b"\n" + (self.payload if payload is None else payload)

    def json(self) -> dict[str, Any]:
        """The block as a node's JSON-RPC gives it."""
        numbers = ("difficulty", "number", "gasLimit", "gasUsed", "timestamp", "baseFeePerGas")
        out: dict[str, Any] = {
            name: hex(int.from_bytes(value, "big")) if name in numbers else "0x" + value.hex()
            for name, value in self.fields.items()
        }
        return out | {"hash": self.hash, "transactions": [], "uncles": [], "size": hex(len(self.header))}


@cache
def grow(n: int) -> tuple[Block, ...]:
    """Return blocks 0 to n, each the child of the one before; made once, for it takes a while."""
    blocks = [Block(0)]
    for number in range(1, n + 1):
        blocks.append(Block(number, blocks[-1].hash))
    return tuple(blocks)
