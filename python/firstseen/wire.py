"""The contents of the frames that observers and servers exchange: docs/WIRE.md in code, without I/O.

schema/testdata/wire.json pins it down. Parse functions take the whole content, the type's byte included, and raise
WireError.
"""

from __future__ import annotations

import itertools
import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

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
WINDOW_FRAMES: Final = 1024
WINDOW_BYTES: Final = 4 << 20
PING_AFTER: Final = 10.0  # seconds, as the next three
DEAD_AFTER: Final = 25.0
FRAME_TIMEOUT: Final = 10.0
WELCOME_TIMEOUT: Final = 5.0

_INT63: Final = 2**63 - 1
_INT64: Final = 2**64 - 1
_MAX_MILLIS: Final = 2**31
_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_CODE: Final = re.compile(r"[a-z0-9_]{1,32}")
_VISIBLE: Final = re.compile(r"[!-~]*")
_CONTENT_TYPE: Final = re.compile(rf"[ -~]{{1,{MAX_CONTENT_TYPE}}}")
_DECIMAL: Final = re.compile(rb"0|[1-9][0-9]*")
_HASH: Final = re.compile(r"0x[0-9A-Fa-f]{64}")
_ADDRESS: Final = re.compile(r"0x[0-9A-Fa-f]{40}")
_BYTES: Final = re.compile(r"0x(?:[0-9A-Fa-f]{2})*")
_TIME: Final = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)", re.ASCII)
_WEI: Final = re.compile(r"0|[1-9][0-9]{0,77}", re.ASCII)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class WireError(Exception):
    """A broken rule. Code is what a fatal frame or a refusal should carry."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


class _Bad(Exception):  # noqa: N818 - never leaves this module
    """A rule broken within a JSON object."""


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


def valid_name(text: object) -> bool:
    """Tell whether text may name an observer, a node or a server."""
    return isinstance(text, str) and _NAME.fullmatch(text) is not None


# Strict JSON: no duplicate names, nothing that is not UTF-8, no number that JSON does not have.


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise _Bad("JSON: duplicate name")
    return members


def _constant(word: str) -> None:
    raise _Bad(f"JSON: {word} is no number")


_decoder: Final = json.JSONDecoder(object_pairs_hook=_pairs, parse_constant=_constant)


def _object(text: bytes) -> dict[str, Any]:
    if not (text.startswith(b"{") and text.endswith(b"}")):
        raise _Bad("not a JSON object")
    try:
        decoded = text.decode()
        value, end = _decoder.raw_decode(decoded)
        if "\\u" in decoded:
            repr_safe = json.dumps(value, ensure_ascii=False)
            repr_safe.encode()  # a lone surrogate cannot be
    except (ValueError, RecursionError) as e:
        raise _Bad("JSON: " + type(e).__name__) from None
    if end != len(decoded):
        raise _Bad("JSON: something behind the object")
    assert isinstance(value, dict)
    return value


def _dump(value: object) -> bytes:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    # No value may end the HTML comment that a HELLO is.
    for char in "<>&\u2028\u2029":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return text.encode()


def _get(obj: Mapping[str, Any], name: str, kind: type, default: Any) -> Any:
    value = obj.get(name)
    if value is None:
        return default
    if type(value) is not kind and not (kind is float and type(value) is int):
        raise _Bad(f"JSON at /{name}: wrong type or out of range")
    return value


def _text(obj: Mapping[str, Any], name: str) -> str:
    value: str = _get(obj, name, str, "")
    return value


def _uint(obj: Mapping[str, Any], name: str, most: int = _INT64) -> int:
    value: int = _get(obj, name, int, 0)
    if not 0 <= value <= most:
        raise _Bad(f"JSON at /{name}: wrong type or out of range")
    return value


def _optional(obj: Mapping[str, Any], name: str, most: int) -> int | None:
    return None if obj.get(name) is None else _uint(obj, name, most)


def _list(obj: Mapping[str, Any], name: str, kind: type) -> list[Any]:
    values: list[Any] = _get(obj, name, list, [])
    if any(type(v) is not kind for v in values):
        raise _Bad(f"JSON at /{name}: wrong type or out of range")
    return values


def _hex(obj: Mapping[str, Any], name: str, form: re.Pattern[str]) -> str | None:
    value = obj.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or not form.fullmatch(value):
        raise _Bad(f"JSON at /{name}: not 0x-prefixed hex of the expected length")
    return value.lower()


def _hash(obj: Mapping[str, Any], name: str) -> str:
    value = _hex(obj, name, _HASH)
    if value is None or not value.strip("0x"):
        raise _Bad(f"{name} is missing")
    return value


def _micros(obj: Mapping[str, Any], name: str) -> int:
    match = _TIME.fullmatch(_text(obj, name))
    if match is None:
        raise _Bad(f"{name} is missing or not of the years 1970 to 9999")
    day, fraction, zone = match.groups()
    try:
        moment = datetime.fromisoformat(day + zone.replace("Z", "+00:00"))
        micros = (moment - _EPOCH) // timedelta(microseconds=1)
        last = moment.astimezone(UTC).year
    except (ValueError, OverflowError):
        raise _Bad(f"JSON at /{name}: no such time") from None
    if micros < 0 or not 1970 <= last <= 9999:
        raise _Bad(f"{name} is missing or not of the years 1970 to 9999")
    return micros + int((fraction or "0").ljust(6, "0")[:6])


def rfc3339(micros: int) -> str:
    """Write microseconds since 1970 as a time in UTC."""
    moment = _EPOCH + timedelta(microseconds=micros)
    text = moment.strftime("%Y-%m-%dT%H:%M:%S")
    fraction = f"{micros % 1_000_000:06d}".rstrip("0")
    return f"{text}.{fraction}Z" if fraction else text + "Z"


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
        obj = _object(text)
        hello = Hello(_text(obj, "observer"), _list(obj, "chains", int), _caps(obj), _text(obj, "token"))
    except _Bad as e:
        raise WireError("protocol", f"hello: {e}") from None
    _check_hello(hello)
    return hello


def _check_hello(h: Hello) -> None:
    if not valid_name(h.observer):
        raise WireError("protocol", "hello: observer is not 1 to 64 of A-Z a-z 0-9 . _ -")
    if len(h.chains) > MAX_CHAINS:
        raise WireError("protocol", f"hello: more than {MAX_CHAINS} chains")
    if len(h.token) > MAX_TOKEN or not _VISIBLE.fullmatch(h.token):
        raise WireError("protocol", f"hello: token is not at most {MAX_TOKEN} visible ASCII characters")
    if len(set(h.chains)) < len(h.chains) or any(not 0 < c <= _INT64 for c in h.chains):
        raise WireError("protocol", "hello: a chain is 0 or named twice")


def _caps(obj: Mapping[str, Any]) -> Sequence[str]:
    caps = _list(obj, "caps", str)
    if len(caps) > MAX_CAPS or not all(map(valid_name, caps)):
        raise _Bad(f"caps are not at most {MAX_CAPS} names of 1 to 64 of A-Z a-z 0-9 . _ -")
    return caps


def hello(h: Hello) -> bytes:
    """Return the content of a HELLO."""
    _check_hello(h)
    obj: dict[str, object] = {"observer": h.observer, "chains": list(h.chains), "caps": list(h.caps)}
    if h.token:
        obj["token"] = h.token
    return PREFIX + VERSION + b" " + _dump(obj) + SUFFIX


_LIMITS: Final = ("window_frames", "window_bytes", "max_frame", "ping_ms", "dead_ms")


def _position(obj: Mapping[str, Any]) -> Position:
    back = [Point(_uint(p, "number"), _hash(p, "hash")) for p in _list(obj, "back", dict)]
    position = Position(_uint(obj, "chain"), _uint(obj, "number"), _hash(obj, "hash"), back)
    heights = [position.number, *(p.number for p in back)]
    if position.chain == 0 or any(below >= above for above, below in itertools.pairwise(heights)):
        raise _Bad("a chain's position lacks its id, or its ancestors are out of order")
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
        chains = [_position(p) for p in _list(obj, "chains", dict)]
        frames, size, most, ping, dead = limits = [_uint(obj, name) for name in _LIMITS]
        welcome = Welcome(
            _text(obj, "server"), _text(obj, "session"), frames, size, most, ping, dead, chains, _caps(obj)
        )
        if not valid_name(welcome.server) or not valid_name(welcome.session) or min(limits) < 1:
            raise _Bad("server, session or a limit is missing")
    except _Bad as e:
        raise WireError("protocol", f"welcome: {e}") from None
    return welcome


def welcome(w: Welcome) -> bytes:
    """Return the content of a W."""
    positions = [_position_json(p) for p in w.chains]
    return b"W" + _dump(
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
        raise _Bad("frame of another type")
    return _object(content[1:])


# D.


def parse_data(content: bytes) -> tuple[Observation, bytes]:
    """Parse a D frame: the observation and the payload. That the header belongs to the hash is for the caller."""
    meta, found, payload = content.partition(b"\n")
    if not found:
        raise WireError("meta", "no line feed behind the JSON")
    try:
        return _observation(_typed(meta, b"D")), payload
    except _Bad as e:
        raise WireError("meta", str(e)) from None


def _observation(obj: Mapping[str, Any]) -> Observation:
    chain = _uint(obj, "chain")
    if not 0 < chain <= _INT63:
        raise _Bad("chain is not 1 to 2^63-1")
    header = _hex(obj, "header", _BYTES)
    if header is None or header == "0x":
        raise _Bad("header is missing")
    content_type = _text(obj, "content_type")
    if not _CONTENT_TYPE.fullmatch(content_type):
        raise _Bad(f"content_type is not 1 to {MAX_CONTENT_TYPE} visible ASCII characters or spaces")
    origin = _text(obj, "origin")
    if origin not in ("head", "backfill"):
        raise _Bad("origin is neither head nor backfill")
    txs = [_transaction(i, t) for i, t in enumerate(_list(obj, "transactions", dict))]
    if any(b.index <= a.index for a, b in itertools.pairwise(txs)):
        raise _Bad("transactions: indexes do not ascend")
    return Observation(
        chain=chain,
        header=bytes.fromhex(header[2:]),
        hash=_hash(obj, "hash"),
        node=_name(obj, "node"),
        observed_at=_micros(obj, "observed_at"),
        content_type=content_type,
        origin=origin,
        transactions=txs,
    )


def _name(obj: Mapping[str, Any], name: str) -> str:
    value = _text(obj, name)
    if not valid_name(value):
        raise _Bad(f"{name} is not 1 to 64 of A-Z a-z 0-9 . _ -")
    return value


def _transaction(i: int, obj: Mapping[str, Any]) -> Transaction:
    value = _text(obj, "value")
    if not _WEI.fullmatch(value) or int(value) >= 2**256:
        raise _Bad(f"transaction {i}: value is not a decimal of 0 to 2^256-1")
    return Transaction(
        hash=_hash(obj, "hash"),
        index=_uint(obj, "index", 2**32 - 1),
        sender=_hex(obj, "from", _ADDRESS) or "0x" + 40 * "0",
        to=_hex(obj, "to", _ADDRESS),
        value=int(value),
        gas_used=_optional(obj, "gas_used", _INT63),
        status=_optional(obj, "status", 1),
        contract=_hex(obj, "contract", _ADDRESS),
    )


def data(o: Observation, payload: bytes) -> bytes:
    """Return the content of a D; WireError if it exceeds MAX_FRAME."""
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
    meta = {
        "chain": o.chain,
        "header": "0x" + o.header.hex(),
        "hash": o.hash,
        "node": o.node,
        "observed_at": rfc3339(o.observed_at),
        "content_type": o.content_type,
        "origin": o.origin,
        "transactions": txs,
    }
    content = b"D" + _dump(meta) + b"\n" + payload
    if len(content) > MAX_FRAME:
        raise WireError("size", f"data frame of {len(content)} bytes, at most {MAX_FRAME}")
    return content


# S.


def parse_status(content: bytes) -> dict[str, Any]:
    """Check an S frame and return its JSON."""
    if len(content) > MAX_STATUS:
        raise WireError("size", f"status of {len(content)} bytes, at most {MAX_STATUS}")
    try:
        obj = _typed(content, b"S")
        for head in _list(obj, "heads", dict):
            _check_head(head)
        for node in _bounded(obj, "nodes"):
            _check_node(node)
        for event in _bounded(obj, "events"):
            _check_event(event)
        for gap in _list(obj, "gaps", dict):
            _chain(gap)
            _text(gap, "reason")
            if _uint(gap, "from") > _uint(gap, "to", _INT63):
                raise _Bad("gap ends before it begins")
    except _Bad as e:
        raise WireError("protocol", f"status: {e}") from None
    return obj


def _bounded(obj: Mapping[str, Any], name: str) -> list[Any]:
    values = _list(obj, name, dict)
    if len(values) > MAX_LIST:
        raise _Bad(f"{len(values)} {name}, at most {MAX_LIST}")
    return values


def _chain(obj: Mapping[str, Any]) -> None:
    if not 0 < _uint(obj, "chain") <= _INT63:
        raise _Bad("chain is not 1 to 2^63-1")


def _check_head(head: Mapping[str, Any]) -> None:
    _chain(head)
    _name(head, "node")
    for name in ("latest", "safe", "finalized"):
        point = _get(head, name, dict, {} if name == "latest" else None)
        if point is not None:
            _uint(point, "number", _INT63)
            _hash(point, "hash")


def _reason(obj: Mapping[str, Any]) -> None:
    reason = _text(obj, "reason")
    if clean(reason) != reason:
        raise _Bad(f"reason is not at most {MAX_TEXT} bytes of printable UTF-8")


def _check_node(node: Mapping[str, Any]) -> None:
    _chain(node)
    _name(node, "name")
    _name(node, "state")
    _micros(node, "since")
    _reason(node)
    _get(node, "cordoned", bool, False)
    _uint(node, "height", _INT63)
    _uint(node, "lag", _INT63)
    latency = _get(node, "latency", dict, {})
    for name in ("p50_ms", "p99_ms"):
        if not 0 <= _get(latency, name, float, 0.0) <= _MAX_MILLIS:
            raise _Bad("latency out of range")


def _check_event(event: Mapping[str, Any]) -> None:
    _chain(event)
    for name in ("node", "from", "to"):
        _name(event, name)
    _micros(event, "at")
    _reason(event)


def status(report: Mapping[str, object]) -> bytes:
    """Return the content of an S."""
    content = b"S" + _dump(report)
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


def _number(digits: bytes, most: int = _INT64) -> int:
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
