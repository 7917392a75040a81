"""Asking a node over JSON-RPC, and believing of the answer what can be computed again."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import requests

from firstseen import header, raw, templates, wire

MAX_ANSWER: Final = 64 << 20  # bytes; a full block is some hundred kilobytes
_CONNECT: Final = 3.0  # seconds
_TOTAL: Final = 15.0
_EMPTY_ROOT: Final = "0x56e81f171bcc55a6ff8345e692c0f86e5b48e01b996cadc001622fb5e363b421"


class NodeError(Exception):
    """A node that did not answer, or not as it should."""


@dataclass(frozen=True, slots=True)
class Head:
    """A header that hashes to what the node calls it."""

    number: int
    hash: str
    parent: str


@dataclass(frozen=True, slots=True)
class Block:
    """A verified header with the transactions that the node claims."""

    head: Head
    header: bytes
    view: templates.Block
    transactions: Sequence[wire.Transaction]
    answer: bytes = b""  # the node's own JSON of it; only where that was asked for
    receipts: bytes | None = None  # the same of its receipts; None where they could not be had


class Node:
    """One node, by name and URL. With raw, blocks keep the JSON that they came in."""

    def __init__(self, name: str, url: str, *, raw: bool = False) -> None:
        self.name, self._url, self._raw = name, url, raw
        self._session = requests.Session()
        self._id = 0
        self.chain = 0  # 0 until it was asked

    def call(self, method: str, *params: object) -> Any:
        """Return a result; NodeError for anything else, an error 200 with a page of HTML included."""
        return self._call(method, *params)[0]

    def _call(self, method: str, *params: object) -> tuple[Any, bytes]:
        """Return a result, and what it was read from."""
        self._id += 1
        body = {"jsonrpc": "2.0", "id": self._id, "method": method, "params": params}
        deadline = time.monotonic() + _TOTAL
        try:
            with self._session.post(self._url, json=body, timeout=(_CONNECT, _TOTAL), stream=True) as response:
                read = bytearray()
                for chunk in response.iter_content(1 << 16):
                    read += chunk
                    if len(read) > MAX_ANSWER or time.monotonic() > deadline:
                        raise NodeError(f"{self.name}: {method}: the answer is too large or too slow")
                if response.status_code != requests.codes.ok:
                    raise NodeError(f"{self.name}: {method}: HTTP {response.status_code}")
            answer = json.loads(read)
        except (requests.RequestException, ValueError, RecursionError) as e:
            raise NodeError(f"{self.name}: {method}: {type(e).__name__}") from e
        if not isinstance(answer, dict) or answer.get("id") != self._id or "result" not in answer:
            error = answer.get("error") if isinstance(answer, dict) else None
            raise NodeError(f"{self.name}: {method}: {wire.clean(str(error or 'no JSON-RPC answer'))}")
        return answer["result"], bytes(read)

    def _own(self, answer: bytes) -> bytes:
        """Return the bytes of the result, where they are wanted."""
        return raw.member(answer, "result") or b"" if self._raw else b""

    def chain_id(self) -> int:
        """Return the chain id."""
        return self._quantity("eth_chainId", self.call("eth_chainId"))

    def _quantity(self, what: str, value: object) -> int:
        try:
            if isinstance(value, str) and value.startswith("0x"):
                return int(value, 16)
        except ValueError:
            pass
        raise NodeError(f"{self.name}: {what} is not a quantity")

    def head(self, tag: str = "latest") -> Head | None:
        """Return the head, or another block by its tag; None if the node has none."""
        answer = self.call("eth_getBlockByNumber", tag, False)
        return None if answer is None else self._verify(answer)[0]

    def by_number(self, number: int) -> Block:
        """Return the block at a height."""
        block = self._block(*self._call("eth_getBlockByNumber", hex(number), True))
        if block.head.number != number:
            raise NodeError(f"{self.name}: asked for block {number}, got {block.head.number}")
        return block

    def by_hash(self, block_hash: str) -> Block:
        """Return the block of a hash."""
        block = self._block(*self._call("eth_getBlockByHash", block_hash, True))
        if block.head.hash != block_hash:
            raise NodeError(f"{self.name}: asked for {block_hash}, got {block.head.hash}")
        return block

    def _verify(self, answer: object) -> tuple[Head, bytes]:
        """Encode the header again and hash it."""
        if not isinstance(answer, dict):
            raise NodeError(f"{self.name}: not a block")
        try:
            rlp = header.encode(answer)
            found = header.decode(rlp)
        except header.HeaderError as e:
            raise NodeError(f"{self.name}: {e}") from e
        if str(answer.get("hash")).lower() != found.hash:
            raise NodeError(f"{self.name}: says {answer.get('hash')}, the header gives {found.hash}")
        return Head(found.number, found.hash, found.parent), rlp

    def _block(self, answer: object, source: bytes) -> Block:
        head, rlp = self._verify(answer)
        assert isinstance(answer, dict)
        try:
            txs = [self._transaction(i, t) for i, t in enumerate(answer["transactions"])]
        except (KeyError, TypeError, ValueError, AttributeError) as e:
            raise NodeError(f"{self.name}: transactions of block {head.number}: {type(e).__name__}") from e
        if len({t.hash for t in txs}) < len(txs) or (not txs and answer["transactionsRoot"] != _EMPTY_ROOT):
            raise NodeError(f"{self.name}: transactions of block {head.number} are not those of its header")
        fee = answer.get("baseFeePerGas")
        view = templates.Block(
            chain=self.chain, number=head.number, hash=head.hash, parent=head.parent,
            time=int(answer["timestamp"], 16), fee_recipient=answer["miner"].lower(),
            gas_limit=int(answer["gasLimit"], 16), gas_used=int(answer["gasUsed"], 16),
            base_fee=None if fee is None else int(fee, 16), extra_data=bytes.fromhex(answer["extraData"][2:]),
            state_root=answer["stateRoot"].lower(),
            transactions=[templates.Transaction(t.hash, t.sender, t.to, t.value) for t in txs],
        )  # fmt: skip
        return Block(head, rlp, view, txs, self._own(source))

    @staticmethod
    def _transaction(i: int, t: Mapping[str, Any]) -> wire.Transaction:
        if int(t["transactionIndex"], 16) != i:
            raise ValueError("transactions are not numbered from 0")
        to = t.get("to")
        return wire.Transaction(t["hash"].lower(), i, t["from"].lower(), to and to.lower(), int(t["value"], 16))

    def with_receipts(self, block: Block) -> Block:
        """Return the block with what its receipts say; as it is if those cannot be had."""
        if not block.transactions:
            return dataclasses.replace(block, receipts=b"[]")
        try:
            receipts, source = self._call("eth_getBlockReceipts", block.head.hash)
            txs = [_applied(t, r, block.head.hash) for t, r in zip(block.transactions, receipts, strict=True)]
        except (NodeError, KeyError, TypeError, ValueError, AttributeError):
            return block
        return dataclasses.replace(block, transactions=txs, receipts=self._own(source) or None)


def _applied(t: wire.Transaction, r: Mapping[str, Any], block_hash: str) -> wire.Transaction:
    if r["blockHash"].lower() != block_hash or r["transactionHash"].lower() != t.hash:
        raise ValueError("receipt of another transaction")
    gas, status = int(r["gasUsed"], 16), r.get("status")
    passed = None if status is None else int(status, 16)
    if int(r["transactionIndex"], 16) != t.index or gas > header.MAX_NUMBER or passed not in (None, 0, 1):
        raise ValueError("receipt out of range")
    # Nodes name the address of a creation that failed too, but nothing was created there.
    made = r.get("contractAddress") if t.to is None and passed != 0 else None
    return wire.Transaction(t.hash, t.index, t.sender, t.to, t.value, gas, passed, made and made.lower())
