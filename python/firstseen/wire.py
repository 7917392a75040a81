"""The contents of the frames that observers and servers exchange: docs/WIRE.md in code, without I/O.

schema/testdata/wire.json pins it down. Parse functions take the whole content, the type's byte included, and raise
WireError.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from firstseen import fields

PREFIX: Final = b"<!--firstseen/"
SUFFIX: Final = b"-->"
VERSION: Final = b"1"

MAX_HELLO: Final = 4 << 10
MAX_FRAME: Final = 4 << 20
MAX_STATUS: Final = 256 << 10
MAX_TEXT: Final = 200
MAX_LIST: Final = 128  # nodes, and events, of a status
MAX_CHAINS: Final = 64
MAX_CAPS: Final = 32
MAX_TOKEN: Final = 512
MAX_CONTENT_TYPE: Final = 128
CAP_RAW: Final = "raw"  # of those who send and take raw parts
WINDOW_FRAMES: Final = 1024
WINDOW_BYTES: Final = 4 << 20
PING_AFTER: Final = 10.0  # seconds, as the next three
DEAD_AFTER: Final = 25.0
FRAME_TIMEOUT: Final = 10.0
WELCOME_TIMEOUT: Final = 5.0

_MAX_MILLIS: Final = 2**31
_CODE: Final = re.compile(r"[a-z0-9_]{1,32}")
_VISIBLE: Final = re.compile(r"[!-~]*")
_CONTENT_TYPE: Final = re.compile(rf"[ -~]{{1,{MAX_CONTENT_TYPE}}}")
_DECIMAL: Final = re.compile(rb"0|[1-9][0-9]*")
_WEI: Final = re.compile(r"0|[1-9][0-9]{0,77}", re.ASCII)


class WireError(Exception):
    """A broken rule. Code is what a fatal frame or a refusal should carry."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


@dataclass(frozen=True, slots=True)
class Hello:
    """What a client says of itself in its first frame."""

    observer: str
    chains: Sequence[int] = ()
    caps: Sequence[str] = ()
    token: str = ""


@dataclass(frozen=True, slots=True)
class Point:
    """One block by height and hash."""

    number: int
    hash: str


@dataclass(frozen=True, slots=True)
class Position:
    """The highest block of a chain whose ancestors are all stored, and some of those, the nearest first."""

    chain: int
    number: int
    hash: str
    back: Sequence[Point] = ()


@dataclass(frozen=True, slots=True)
class Welcome:
    """The server's answer to a HELLO: who it is and what it allows."""

    server: str
    session: str
    window_frames: int = WINDOW_FRAMES
    window_bytes: int = WINDOW_BYTES
    max_frame: int = MAX_FRAME
    ping_ms: int = int(PING_AFTER * 1000)
    dead_ms: int = int(DEAD_AFTER * 1000)
    chains: Sequence[Position] = ()
    caps: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Transaction:
    """The summary of one transaction. What comes from its receipt is None when that could not be had."""

    hash: str
    index: int
    sender: str
    to: str | None
    value: int  # wei
    gas_used: int | None = None
    status: int | None = None
    contract: str | None = None


@dataclass(frozen=True, slots=True)
class Observation:
    """One observer's claim to have seen one block. Observed_at is in microseconds since 1970."""

    chain: int
    header: bytes
    hash: str
    node: str
    observed_at: int
    content_type: str
    origin: str
    transactions: Sequence[Transaction] = ()
    raw: bytes = b""  # the raw part, which travels behind the payload; empty: there is none


@dataclass(frozen=True, slots=True)
class Refusal:
    """Data frame n will never be stored."""

    n: int
    code: str
    text: str


@dataclass(frozen=True, slots=True)
class Fatal:
    """The last frame of a server, and why."""

    retry: bool
    code: str
    text: str


# HELLO and W.


def is_hello(first: bytes) -> bool:
    """Tell whether a connection's first frame asks for relay mode, whatever its version and however broken."""
    return first.startswith(PREFIX)


def parse_hello(content: bytes) -> Hello:
    """Parse a first frame of which is_hello is true."""
    if len(content) > MAX_HELLO:
        raise WireError("size", f"hello of {len(content)} bytes, at most {MAX_HELLO}")
    version, space, rest = content.removeprefix(PREFIX).partition(b" ")
    if not space or not _DECIMAL.fullmatch(version):
        raise WireError("protocol", "hello has no version")
    if version != VERSION:
        raise WireError("version", f"this server speaks version {VERSION.decode()}")
    text = rest.removesuffix(SUFFIX)
    if text == rest or SUFFIX in text:
        raise WireError("protocol", "hello is not one HTML comment")
    try:
        obj = fields.parse(text)
        hello = Hello(
            fields.text(obj, "observer"), fields.items(obj, "chains", int), _caps(obj), fields.text(obj, "token")
        )
    except fields.FieldError as e:
        raise WireError("protocol", f"hello: {e}") from None
    _check_hello(hello)
    return hello


def _check_hello(h: Hello) -> None:
    if not fields.valid_name(h.observer):
        raise WireError("protocol", "hello: observer is not 1 to 64 of A-Z a-z 0-9 . _ -")
    if len(h.chains) > MAX_CHAINS:
        raise WireError("protocol", f"hello: more than {MAX_CHAINS} chains")
    if len(h.token) > MAX_TOKEN or not _VISIBLE.fullmatch(h.token):
        raise WireError("protocol", f"hello: token is not at most {MAX_TOKEN} visible ASCII characters")
    if len(set(h.chains)) < len(h.chains) or any(not 0 < c <= fields.INT64 for c in h.chains):
        raise WireError("protocol", "hello: a chain is 0 or named twice")


def _caps(obj: Mapping[str, Any]) -> Sequence[str]:
    caps = fields.items(obj, "caps", str)
    if len(caps) > MAX_CAPS or not all(map(fields.valid_name, caps)):
        raise fields.FieldError(f"caps are not at most {MAX_CAPS} names of 1 to 64 of A-Z a-z 0-9 . _ -")
    return caps


def hello(h: Hello) -> bytes:
    """Return the content of a HELLO."""
    _check_hello(h)
    obj: dict[str, object] = {"observer": h.observer, "chains": list(h.chains), "caps": list(h.caps)}
    if h.token:
        obj["token"] = h.token
    return PREFIX + VERSION + b" " + fields.dump(obj) + SUFFIX


_LIMITS: Final = ("window_frames", "window_bytes", "max_frame", "ping_ms", "dead_ms")


def _position(obj: Mapping[str, Any]) -> Position:
    back = [Point(fields.uint(p, "number"), fields.block_hash(p, "hash")) for p in fields.items(obj, "back", dict)]
    position = Position(fields.uint(obj, "chain"), fields.uint(obj, "number"), fields.block_hash(obj, "hash"), back)
    heights = [position.number, *(p.number for p in back)]
    if position.chain == 0 or any(below >= above for above, below in itertools.pairwise(heights)):
        raise fields.FieldError("a chain's position lacks its id, or its ancestors are out of order")
    return position


def _position_json(p: Position) -> dict[str, object]:
    obj: dict[str, object] = {"chain": p.chain, "number": p.number, "hash": p.hash}
    if p.back:
        obj["back"] = [{"number": b.number, "hash": b.hash} for b in p.back]
    return obj


def parse_welcome(content: bytes) -> Welcome:
    """Parse a W frame."""
    try:
        obj = _typed(content, b"W")
        chains = [_position(p) for p in fields.items(obj, "chains", dict)]
        frames, size, most, ping, dead = limits = [fields.uint(obj, name) for name in _LIMITS]
        welcome = Welcome(
            fields.text(obj, "server"), fields.text(obj, "session"), frames, size, most, ping, dead, chains, _caps(obj)
        )
        if not fields.valid_name(welcome.server) or not fields.valid_name(welcome.session) or min(limits) < 1:
            raise fields.FieldError("server, session or a limit is missing")
    except fields.FieldError as e:
        raise WireError("protocol", f"welcome: {e}") from None
    return welcome


def welcome(w: Welcome) -> bytes:
    """Return the content of a W."""
    positions = [_position_json(p) for p in w.chains]
    return b"W" + fields.dump(
        {
            "server": w.server,
            "session": w.session,
            "window_frames": w.window_frames,
            "window_bytes": w.window_bytes,
            "max_frame": w.max_frame,
            "ping_ms": w.ping_ms,
            "dead_ms": w.dead_ms,
            "chains": positions,
            "caps": list(w.caps),
        }
    )


def _typed(content: bytes, kind: bytes) -> dict[str, Any]:
    if content[:1] != kind:
        raise fields.FieldError("frame of another type")
    return fields.parse(content[1:])


# D.


def parse_data(content: bytes) -> tuple[Observation, bytes]:
    """Parse a D frame: the observation and the payload.

    That the header belongs to the hash, and the raw part to the header, is for the caller.
    """
    meta, found, rest = content.partition(b"\n")
    if not found:
        raise WireError("meta", "no line feed behind the JSON")
    try:
        obj = _typed(meta, b"D")
        cut = _cut(obj, len(rest))
        return _observation(obj, rest[cut:]), rest[:cut]
    except fields.FieldError as e:
        raise WireError("meta", str(e)) from None


def _cut(obj: Mapping[str, Any], size: int) -> int:
    """Return where among so many bytes the payload ends."""
    raw = fields.optional(obj, "raw", fields.INT64)
    if raw is not None and not 0 < raw <= size:
        raise fields.FieldError(f"raw is {raw} of the {size} bytes behind the JSON")
    return size - (raw or 0)


def _observation(obj: Mapping[str, Any], raw: bytes) -> Observation:
    chain = fields.uint(obj, "chain")
    if not 0 < chain <= fields.INT63:
        raise fields.FieldError("chain is not 1 to 2^63-1")
    header = fields.digits(obj, "header", fields.BYTES)
    if header is None or header == "0x":
        raise fields.FieldError("header is missing")
    content_type = fields.text(obj, "content_type")
    if not _CONTENT_TYPE.fullmatch(content_type):
        raise fields.FieldError(f"content_type is not 1 to {MAX_CONTENT_TYPE} visible ASCII characters or spaces")
    origin = fields.text(obj, "origin")
    if origin not in ("head", "backfill"):
        raise fields.FieldError("origin is neither head nor backfill")
    txs = [_transaction(i, t) for i, t in enumerate(fields.items(obj, "transactions", dict))]
    if any(b.index <= a.index for a, b in itertools.pairwise(txs)):
        raise fields.FieldError("transactions: indexes do not ascend")
    return Observation(
        chain=chain,
        header=bytes.fromhex(header[2:]),
        hash=fields.block_hash(obj, "hash"),
        node=fields.name(obj, "node"),
        observed_at=fields.micros(obj, "observed_at"),
        content_type=content_type,
        origin=origin,
        transactions=txs,
        raw=raw,
    )


def _transaction(i: int, obj: Mapping[str, Any]) -> Transaction:
    value = fields.text(obj, "value")
    if not _WEI.fullmatch(value) or int(value) >= 2**256:
        raise fields.FieldError(f"transaction {i}: value is not a decimal of 0 to 2^256-1")
    return Transaction(
        hash=fields.block_hash(obj, "hash"),
        index=fields.uint(obj, "index", 2**32 - 1),
        sender=fields.digits(obj, "from", fields.ADDRESS) or "0x" + 40 * "0",
        to=fields.digits(obj, "to", fields.ADDRESS),
        value=int(value),
        gas_used=fields.optional(obj, "gas_used", fields.INT63),
        status=fields.optional(obj, "status", 1),
        contract=fields.digits(obj, "contract", fields.ADDRESS),
    )


def data(o: Observation, payload: bytes) -> bytes:
    """Return the content of a D, with the raw part if there is one; WireError if it exceeds MAX_FRAME."""
    txs = [
        {
            "hash": t.hash,
            "index": t.index,
            "from": t.sender,
            "to": t.to,
            "value": str(t.value),
            "gas_used": t.gas_used,
            "status": t.status,
            "contract": t.contract,
        }
        for t in o.transactions
    ]
    meta: dict[str, object] = {
        "chain": o.chain,
        "header": "0x" + o.header.hex(),
        "hash": o.hash,
        "node": o.node,
        "observed_at": fields.rfc3339(o.observed_at),
        "content_type": o.content_type,
        "origin": o.origin,
        "transactions": txs,
    }
    if o.raw:
        meta["raw"] = len(o.raw)
    content = b"D" + fields.dump(meta) + b"\n" + payload + o.raw
    if len(content) > MAX_FRAME:
        raise WireError("size", f"data frame of {len(content)} bytes, at most {MAX_FRAME}")
    return content


def without_raw(content: bytes) -> bytes:
    """Return the D of the same observation without its raw part, as it comes where that part is not taken."""
    if b'"raw":' not in content.partition(b"\n")[0]:  # which no string can hold: its quotes would be escaped
        return content
    o, payload = parse_data(content)
    return data(dataclasses.replace(o, raw=b""), payload)


# S.


def parse_status(content: bytes) -> dict[str, Any]:
    """Check an S frame and return its JSON."""
    if len(content) > MAX_STATUS:
        raise WireError("size", f"status of {len(content)} bytes, at most {MAX_STATUS}")
    try:
        obj = _typed(content, b"S")
        for head in fields.items(obj, "heads", dict):
            _check_head(head)
        for node in _bounded(obj, "nodes"):
            _check_node(node)
        for event in _bounded(obj, "events"):
            _check_event(event)
        for gap in fields.items(obj, "gaps", dict):
            _chain(gap)
            fields.text(gap, "reason")
            if fields.uint(gap, "from") > fields.uint(gap, "to", fields.INT63):
                raise fields.FieldError("gap ends before it begins")
    except fields.FieldError as e:
        raise WireError("protocol", f"status: {e}") from None
    return obj


def _bounded(obj: Mapping[str, Any], name: str) -> list[Any]:
    values = fields.items(obj, name, dict)
    if len(values) > MAX_LIST:
        raise fields.FieldError(f"{len(values)} {name}, at most {MAX_LIST}")
    return values


def _chain(obj: Mapping[str, Any]) -> None:
    if not 0 < fields.uint(obj, "chain") <= fields.INT63:
        raise fields.FieldError("chain is not 1 to 2^63-1")


def _check_head(head: Mapping[str, Any]) -> None:
    _chain(head)
    fields.name(head, "node")
    for name in ("latest", "safe", "finalized"):
        point = fields.get(head, name, dict, {} if name == "latest" else None)
        if point is not None:
            fields.uint(point, "number", fields.INT63)
            fields.block_hash(point, "hash")


def _reason(obj: Mapping[str, Any]) -> None:
    reason = fields.text(obj, "reason")
    if clean(reason) != reason:
        raise fields.FieldError(f"reason is not at most {MAX_TEXT} bytes of printable UTF-8")


def _check_node(node: Mapping[str, Any]) -> None:
    _chain(node)
    fields.name(node, "name")
    fields.name(node, "state")
    fields.micros(node, "since")
    _reason(node)
    fields.get(node, "cordoned", bool, False)
    fields.uint(node, "height", fields.INT63)
    fields.uint(node, "lag", fields.INT63)
    latency = fields.get(node, "latency", dict, {})
    for name in ("p50_ms", "p99_ms"):
        if not 0 <= fields.get(latency, name, float, 0.0) <= _MAX_MILLIS:
            raise fields.FieldError("latency out of range")


def _check_event(event: Mapping[str, Any]) -> None:
    _chain(event)
    for name in ("node", "from", "to"):
        fields.name(event, name)
    fields.micros(event, "at")
    _reason(event)


def status(report: Mapping[str, object]) -> bytes:
    """Return the content of an S."""
    content = b"S" + fields.dump(report)
    parse_status(content)
    return content


# A, N, G, E and the frames that are nothing but their type.


def parse_ack(content: bytes) -> tuple[int, str]:
    """Parse an A frame into its mark and flags."""
    number, space, flags = content[1:].partition(b" ")
    if content[:1] != b"A" or not space or not flags.strip(b"fd") == b"":
        raise WireError("protocol", "ack: want A<n> <flags>")
    n = _number(number)
    if not 0 < len(flags) <= n:
        raise WireError("protocol", f"ack: {len(flags)} flags for mark {n}")
    return n, flags.decode()


def ack(n: int, flags: str) -> bytes:
    """Return the content of an A: data frames up to n are settled, len(flags) of them newly."""
    return f"A{n} {flags}".encode()


def _number(digits: bytes, most: int = fields.INT64) -> int:
    if not _DECIMAL.fullmatch(digits) or len(digits) > 20 or int(digits) > most:
        raise WireError("protocol", "not a decimal number in range")
    return int(digits)


def parse_refusal(content: bytes) -> Refusal:
    """Parse an N frame."""
    number, space, rest = content[1:].partition(b" ")
    if content[:1] != b"N" or not space:
        raise WireError("protocol", "refusal: want N<n> <code> <text>")
    n = _number(number)
    if n == 0:
        raise WireError("protocol", "refusal of frame 0")
    return Refusal(n, *_parse_reason(rest))


def refusal(r: Refusal) -> bytes:
    """Return the content of an N."""
    return f"N{r.n} {r.code} {clean(r.text)}".encode()


def _parse_reason(raw: bytes) -> tuple[str, str]:
    code, space, rest = raw.partition(b" ")
    try:
        text = rest.decode()
    except UnicodeDecodeError:
        raise WireError("protocol", "text is not UTF-8") from None
    if not space or not _CODE.fullmatch(code.decode("latin-1")) or clean(text) != text:
        raise WireError("protocol", "want <code> <text>")
    return code.decode(), text


def clean(text: str) -> str:
    """Make text fit to stand in a frame and to be shown on a terminal: printable and at most MAX_TEXT bytes."""
    shown = "".join(c if c == " " or (unicodedata.category(c)[0] not in "CZ" and c != "\ufffd") else "?" for c in text)
    return shown.encode()[:MAX_TEXT].decode(errors="ignore")


def parse_drain(content: bytes) -> int:
    """Parse a G frame into milliseconds."""
    if content[:1] != b"G":
        raise WireError("protocol", "not a drain")
    return _number(content[1:], 2**31 - 1)


def drain(millis: int) -> bytes:
    """Return the content of a G."""
    return b"G%d" % max(0, millis)


def parse_fatal(content: bytes) -> Fatal:
    """Parse an E frame."""
    verb, space, rest = content[1:].partition(b" ")
    if content[:1] != b"E" or not space or verb not in (b"retry", b"stop"):
        raise WireError("protocol", "fatal: want E<retry|stop> <code> <text>")
    return Fatal(verb == b"retry", *_parse_reason(rest))


def fatal(f: Fatal) -> bytes:
    """Return the content of an E."""
    return f"E{'retry' if f.retry else 'stop'} {f.code} {clean(f.text)}".encode()


def parse_alone(content: bytes, kind: bytes) -> None:
    """Parse a frame that is nothing but its type: ping, pong or bye."""
    if content != kind:
        raise WireError("protocol", f"want {kind.decode()} alone")


def skippable(content: bytes) -> bool:
    """Tell whether a frame of an unknown type is to be ignored."""
    return content[:1].islower() and content[:1].isascii()
