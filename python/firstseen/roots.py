"""The roots in a header over a block's lists, from the lists as JSON-RPC gives them.

Ethereum Yellow Paper, 4.3 and appendix D; EIP-2718, 2930, 1559, 4844, 7702 and 4895 for what is encoded how.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from firstseen import rlp
from firstseen.header import keccak256

EMPTY: Final = "0x56e81f171bcc55a6ff8345e692c0f86e5b48e01b996cadc001622fb5e363b421"
NO_UNCLES: Final = "0x1dcc4de8dec75d7aab85b567b6ccd41ad312451b948a7413f0a142fd40d49347"

_QUANTITY: Final = re.compile(r"0x(?:0|[1-9A-Fa-f][0-9A-Fa-f]{0,63})")
_BYTES: Final = re.compile(r"0x(?:[0-9A-Fa-f]{2})*")
_FEES: Final = ("maxPriorityFeePerGas", "maxFeePerGas")


class UnknownTypeError(Exception):
    """A transaction of a type that is not known here."""


class MalformedError(ValueError):
    """What cannot be encoded."""


def _quantity(obj: Mapping[str, Any], name: str) -> bytes:
    value = obj.get(name)
    if not isinstance(value, str) or not _QUANTITY.fullmatch(value):
        raise MalformedError(f"{name} is no quantity")
    return rlp.uint(int(value, 16))


def _data(value: object, size: int | None = None) -> bytes:
    if not isinstance(value, str) or not _BYTES.fullmatch(value):
        raise MalformedError("not bytes")
    found = bytes.fromhex(value[2:])
    if size is not None and len(found) != size:
        raise MalformedError(f"{len(found)} bytes, not {size}")
    return found


def _list(obj: Mapping[str, Any], name: str) -> list[Any]:
    value = obj.get(name)
    if not isinstance(value, list):
        raise MalformedError(f"{name} is no list")
    return value


def transaction(t: Mapping[str, Any]) -> bytes:
    """Encode a transaction, whose Keccak-256 is its hash."""
    kind = int.from_bytes(_quantity(t, "type"), "big") if "type" in t else 0
    if kind > 4:
        raise UnknownTypeError
    to = b"" if t.get("to") is None else _data(t["to"], 20)
    body = [_quantity(t, "gas"), to, _quantity(t, "value"), _data(t.get("input"))]
    signature = [_quantity(t, "r"), _quantity(t, "s")]
    if kind == 0:
        return rlp.encode([_quantity(t, "nonce"), _quantity(t, "gasPrice"), *body, _quantity(t, "v"), *signature])
    parity = _quantity(t, "yParity" if t.get("yParity") is not None else "v")
    fees = [_quantity(t, name) for name in (("gasPrice",) if kind == 1 else _FEES)]
    access: list[rlp.Item] = [_access(a) for a in _list(t, "accessList")]
    more: list[rlp.Item] = []
    if kind == 3:
        more = [_quantity(t, "maxFeePerBlobGas"), [_data(h, 32) for h in _list(t, "blobVersionedHashes")]]
    if kind == 4:
        more = [[_authorization(a) for a in _list(t, "authorizationList")]]
    head = [_quantity(t, "chainId"), _quantity(t, "nonce"), *fees]
    return bytes((kind,)) + rlp.encode([*head, *body, access, *more, parity, *signature])


def _access(a: Any) -> rlp.Item:
    if not isinstance(a, dict):
        raise MalformedError("an entry of an access list is no object")
    return [_data(a.get("address"), 20), [_data(k, 32) for k in _list(a, "storageKeys")]]


def _authorization(a: Any) -> rlp.Item:
    if not isinstance(a, dict):
        raise MalformedError("an authorization is no object")
    numbers = [_quantity(a, name) for name in ("nonce", "yParity", "r", "s")]
    return [_quantity(a, "chainId"), _data(a.get("address"), 20), *numbers]


def receipt(r: Mapping[str, Any]) -> bytes:
    """Encode a receipt."""
    kind = _quantity(r, "type") if "type" in r else b""
    outcome = _data(r["root"], 32) if r.get("root") not in (None, "0x") else _quantity(r, "status")
    logs: list[rlp.Item] = []
    for entry in _list(r, "logs"):
        topics: list[rlp.Item] = [_data(t, 32) for t in _list(entry, "topics")]
        logs.append([_data(entry.get("address"), 20), topics, _data(entry.get("data"))])
    return kind + rlp.encode([outcome, _quantity(r, "cumulativeGasUsed"), _data(r.get("logsBloom"), 256), logs])


def withdrawal(w: Any) -> bytes:
    """Encode a withdrawal."""
    if not isinstance(w, dict):
        raise MalformedError("a withdrawal is no object")
    numbers = _quantity(w, "index"), _quantity(w, "validatorIndex")
    return rlp.encode([*numbers, _data(w.get("address"), 20), _quantity(w, "amount")])


def root(items: Sequence[bytes]) -> str:
    """Return the root of the trie that has each item under its encoded index."""
    if not items:
        return EMPTY
    pairs = [(_nibbles(rlp.encode(rlp.uint(i))), item) for i, item in enumerate(items)]
    return "0x" + keccak256(rlp.encode(_node(sorted(pairs), 0))).hex()


def _nibbles(key: bytes) -> tuple[int, ...]:
    return tuple(itertools.chain.from_iterable((b >> 4, b & 15) for b in key))


def _node(pairs: Sequence[tuple[tuple[int, ...], bytes]], depth: int) -> list[rlp.Item]:
    """Return the node over sorted pairs whose keys have the first so many nibbles in common. No key begins another."""
    first, last = pairs[0][0], pairs[-1][0]
    if len(pairs) == 1:
        return [_path(first[depth:], leaf=True), pairs[0][1]]
    fork = depth
    while first[fork] == last[fork]:
        fork += 1
    if fork > depth:
        return [_path(first[depth:fork], leaf=False), _reference(_node(pairs, fork))]
    branch: list[rlp.Item] = [b""] * 17
    for nibble, below in itertools.groupby(pairs, lambda p: p[0][depth]):
        branch[nibble] = _reference(_node(list(below), depth + 1))
    return branch


def _reference(node: list[rlp.Item]) -> rlp.Item:
    encoded = rlp.encode(node)
    return node if len(encoded) < 32 else keccak256(encoded)


def _path(nibbles: Sequence[int], *, leaf: bool) -> bytes:
    """Pack nibbles two to a byte behind a flag (hex prefix encoding)."""
    flag = 2 * leaf + len(nibbles) % 2
    packed = [flag, *([] if flag % 2 else [0]), *nibbles]
    return bytes(packed[i] << 4 | packed[i + 1] for i in range(0, len(packed), 2))
