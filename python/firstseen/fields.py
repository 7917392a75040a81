"""The JSON of the wire protocol: strict objects, and members that are checked as they are read.

Strict: no duplicate names, nothing that is not UTF-8, no number that JSON does not have.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

INT63: Final = 2**63 - 1
INT64: Final = 2**64 - 1
HASH: Final = re.compile(r"0x[0-9A-Fa-f]{64}")
ADDRESS: Final = re.compile(r"0x[0-9A-Fa-f]{40}")
BYTES: Final = re.compile(r"0x(?:[0-9A-Fa-f]{2})*")
_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_TIME: Final = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)", re.ASCII)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class FieldError(Exception):
    """A rule broken within a JSON object."""


def valid_name(value: object) -> bool:
    """Tell whether value may name an observer, a node or a server."""
    return isinstance(value, str) and _NAME.fullmatch(value) is not None


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise FieldError("JSON: duplicate name")
    return members


def _constant(word: str) -> None:
    raise FieldError(f"JSON: {word} is no number")


_decoder: Final = json.JSONDecoder(object_pairs_hook=_pairs, parse_constant=_constant)


def parse(raw: bytes) -> dict[str, Any]:
    """Read one object, from its first byte to its last."""
    if not (raw.startswith(b"{") and raw.endswith(b"}")):
        raise FieldError("not a JSON object")
    try:
        decoded = raw.decode()
        value, end = _decoder.raw_decode(decoded)
        if "\\u" in decoded:
            repr_safe = json.dumps(value, ensure_ascii=False)
            repr_safe.encode()  # a lone surrogate cannot be
    except (ValueError, RecursionError) as e:
        raise FieldError("JSON: " + type(e).__name__) from None
    if end != len(decoded):
        raise FieldError("JSON: something behind the object")
    assert isinstance(value, dict)
    return value


def dump(value: object) -> bytes:
    """Write an object on one line."""
    line = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    # No value may end the HTML comment that a HELLO is.
    for char in "<>&\u2028\u2029":
        line = line.replace(char, f"\\u{ord(char):04x}")
    return line.encode()


def get(obj: Mapping[str, Any], name: str, kind: type, default: Any) -> Any:
    """Return a member of that type, the default for one that is absent or null."""
    value = obj.get(name)
    if value is None:
        return default
    if type(value) is not kind and not (kind is float and type(value) is int):
        raise FieldError(f"JSON at /{name}: wrong type or out of range")
    return value


def text(obj: Mapping[str, Any], name: str) -> str:
    """Return a string, empty if it is absent."""
    value: str = get(obj, name, str, "")
    return value


def uint(obj: Mapping[str, Any], name: str, most: int = INT64) -> int:
    """Return an integer from 0 to most, 0 if it is absent."""
    value: int = get(obj, name, int, 0)
    if not 0 <= value <= most:
        raise FieldError(f"JSON at /{name}: wrong type or out of range")
    return value


def optional(obj: Mapping[str, Any], name: str, most: int) -> int | None:
    """Return an integer from 0 to most, None if it is absent."""
    return None if obj.get(name) is None else uint(obj, name, most)


def items(obj: Mapping[str, Any], name: str, kind: type) -> list[Any]:
    """Return a list whose elements all have that type, empty if it is absent."""
    values: list[Any] = get(obj, name, list, [])
    if any(type(v) is not kind for v in values):
        raise FieldError(f"JSON at /{name}: wrong type or out of range")
    return values


def digits(obj: Mapping[str, Any], name: str, form: re.Pattern[str]) -> str | None:
    """Return hex of that form in lower case, None if it is absent."""
    value = obj.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or not form.fullmatch(value):
        raise FieldError(f"JSON at /{name}: not 0x-prefixed hex of the expected length")
    return value.lower()


def block_hash(obj: Mapping[str, Any], name: str) -> str:
    """Return a hash that must be there."""
    value = digits(obj, name, HASH)
    if value is None or not value.strip("0x"):
        raise FieldError(f"{name} is missing")
    return value


def micros(obj: Mapping[str, Any], name: str) -> int:
    """Return a time that must be there, in microseconds since 1970."""
    match = _TIME.fullmatch(text(obj, name))
    if match is None:
        raise FieldError(f"{name} is missing or not of the years 1970 to 9999")
    day, fraction, zone = match.groups()
    try:
        moment = datetime.fromisoformat(day + zone.replace("Z", "+00:00"))
        total = (moment - _EPOCH) // timedelta(microseconds=1)
        last = moment.astimezone(UTC).year
    except (ValueError, OverflowError):
        raise FieldError(f"JSON at /{name}: no such time") from None
    if total < 0 or not 1970 <= last <= 9999:
        raise FieldError(f"{name} is missing or not of the years 1970 to 9999")
    return total + int((fraction or "0").ljust(6, "0")[:6])


def rfc3339(at: int) -> str:
    """Write microseconds since 1970 as a time in UTC."""
    moment = _EPOCH + timedelta(microseconds=at)
    second = moment.strftime("%Y-%m-%dT%H:%M:%S")
    fraction = f"{at % 1_000_000:06d}".rstrip("0")
    return f"{second}.{fraction}Z" if fraction else second + "Z"


def name(obj: Mapping[str, Any], member: str) -> str:
    """Return the name of an observer, a node or a server, which must be there."""
    value = text(obj, member)
    if not valid_name(value):
        raise FieldError(f"{member} is not 1 to 64 of A-Z a-z 0-9 . _ -")
    return value
