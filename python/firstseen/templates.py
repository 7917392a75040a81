"""The default payloads, byte for byte what the Go observer renders; templates/testdata has them of three blocks."""

from __future__ import annotations

import html
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

MAX_TRANSACTIONS: Final = 3000  # of a block that a payload lists
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Transaction:
    """What a payload shows of a transaction. To is None for a contract creation; value is wei."""

    hash: str
    sender: str
    to: str | None
    value: int


@dataclass(frozen=True, slots=True)
class Block:
    """The block's own facts, nothing of who observed it, so that every observer renders the same bytes."""

    chain: int
    number: int
    hash: str
    parent: str
    time: int  # Unix seconds
    fee_recipient: str
    gas_limit: int
    gas_used: int
    base_fee: int | None  # None before London
    extra_data: bytes
    state_root: str
    transactions: Sequence[Transaction]

    @property
    def time_text(self) -> str:
        """The time by the clock, as RFC 3339 writes it."""
        return (_EPOCH + timedelta(seconds=self.time)).strftime("%Y-%m-%dT%H:%M:%SZ")

    @property
    def extra_text(self) -> str:
        """Extra data that no terminal, browser or editor takes for anything but text."""
        return "".join(chr(c) if 0x20 <= c <= 0x7E else "." for c in self.extra_data)

    @property
    def listed(self) -> Sequence[Transaction]:
        """The transactions that a payload lists."""
        return self.transactions[:MAX_TRANSACTIONS]


# What Go's html/template writes for these in text.
_ESCAPES: Final = {
    ord("&"): "&amp;",
    ord("'"): "&#39;",
    ord("<"): "&lt;",
    ord(">"): "&gt;",
    ord('"'): "&#34;",
    ord("+"): "&#43;",
}


def _cell(value: object) -> str:
    return str(value).translate(_ESCAPES)


def render_html(b: Block) -> bytes:
    """Render block.html."""
    facts = {
        "Chain": b.chain,
        "Hash": b.hash,
        "Parent": b.parent,
        "Time": b.time_text,
        "Timestamp": b.time,
        "Fee recipient": b.fee_recipient,
        "Gas used": b.gas_used,
        "Gas limit": b.gas_limit,
        "Base fee": "" if b.base_fee is None else b.base_fee,
        "State root": b.state_root,
        "Extra data": "0x" + b.extra_data.hex(),
        "Extra text": b.extra_text,
        "Transactions": len(b.transactions),
    }
    lines = [
        "<!DOCTYPE html>",
        '<html lang="en">',
        "<head>",
        '    <meta charset="utf-8">',
        f"    <title>Block {b.number}</title>",
        "</head>",
        "<body>",
        f"    <h1>Block {b.number}</h1>",
        "    <table>",
    ]
    lines += [f"        <tr><th>{html.escape(k)}</th><td>{_cell(v)}</td></tr>" for k, v in facts.items()]
    lines += [
        "    </table>",
        "    <table>",
        "        <tr><th>Transaction</th><th>From</th><th>To</th><th>Value</th></tr>",
    ]
    lines += [
        f"        <tr><td>{t.hash}</td><td>{t.sender}</td><td>{t.to or ''}</td><td>{t.value}</td></tr>"
        for t in b.listed
    ]
    lines += ["    </table>", "</body>", "</html>"]
    return "\n".join(lines).encode()


def render_json(b: Block) -> bytes:
    """Render block.json."""
    facts: dict[str, object] = {
        "chain": b.chain,
        "number": b.number,
        "hash": b.hash,
        "parent": b.parent,
        "timestamp": b.time,
        "fee_recipient": b.fee_recipient,
        "gas_used": b.gas_used,
        "gas_limit": b.gas_limit,
        "base_fee": None if b.base_fee is None else str(b.base_fee),
        "state_root": b.state_root,
        "extra_data": "0x" + b.extra_data.hex(),
        "extra_text": b.extra_text,
        "transaction_count": len(b.transactions),
        "transactions": [{"hash": t.hash, "from": t.sender, "to": t.to, "value": str(t.value)} for t in b.listed],
    }
    return json.dumps(facts, indent=2, ensure_ascii=False).encode()


def render_text(b: Block) -> bytes:
    """Render block.txt."""
    facts = {
        "block": b.number,
        "chain": b.chain,
        "hash": b.hash,
        "parent": b.parent,
        "time": b.time_text,
        "timestamp": b.time,
        "fee_recipient": b.fee_recipient,
        "gas_used": b.gas_used,
        "gas_limit": b.gas_limit,
        "base_fee": "-" if b.base_fee is None else b.base_fee,
        "state_root": b.state_root,
        "extra_data": "0x" + b.extra_data.hex(),
        "extra_text": b.extra_text or "-",
        "transactions": len(b.transactions),
    }
    lines = [f"{k} {v}" for k, v in facts.items()]
    lines += [f"{t.hash} {t.sender} {t.to or '-'} {t.value}" for t in b.listed]
    return "\n".join(lines).encode()


@dataclass(frozen=True, slots=True)
class Template:
    """A way to render a block, and the content type of what comes out."""

    render: Callable[[Block], bytes]
    content_type: str


DEFAULTS: Final = {
    "block.html": Template(render_html, "text/html; charset=utf-8"),
    "block.json": Template(render_json, "application/json"),
    "block.txt": Template(render_text, "text/plain; charset=utf-8"),
}
