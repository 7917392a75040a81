"""Block headers: believed only after their Keccak-256 has been computed anew.

schema/testdata/headers.json has one of each fork's shape. Hashlib's sha3_256 is another function: Ethereum's Keccak
pads differently.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from Crypto.Hash import keccak

from firstseen import rlp

MAX_HEADER: Final = 16 << 10
MAX_TIME: Final = 253402300799  # the last second of the year 9999
MAX_NUMBER: Final = 2**63 - 1


class HeaderError(ValueError):
    """A header that does not decode or does not hash to what was said of it."""


@dataclass(frozen=True, slots=True)
class Header:
    """What a header says of itself. Hashes and the fee recipient are 0x and digits; time is in Unix seconds."""

    hash: str
    parent: str
    number: int
    time: int
    fee_recipient: str


# Name in JSON-RPC and length in bytes of each field, in the order of the RLP; a negative length is that of the largest
# integer, 0 any length. The first 15 are in every header, the others came with the forks, each only after those before.
_FIELDS: Final = (
    ("parentHash", 32),
    ("sha3Uncles", 32),
    ("miner", 20),
    ("stateRoot", 32),
    ("transactionsRoot", 32),
    ("receiptsRoot", 32),
    ("logsBloom", 256),
    ("difficulty", -32),
    ("number", -32),
    ("gasLimit", -8),
    ("gasUsed", -8),
    ("timestamp", -8),
    ("extraData", 0),
    ("mixHash", 32),
    ("nonce", 8),
    ("baseFeePerGas", -32),
    ("withdrawalsRoot", 32),
    ("blobGasUsed", -8),
    ("excessBlobGas", -8),
    ("parentBeaconBlockRoot", 32),
    ("requestsHash", 32),
)
_MANDATORY: Final = 15
_PARENT, _MINER, _NUMBER, _TIME = 0, 2, 8, 11


def keccak256(data: bytes) -> bytes:
    """Return Ethereum's Keccak-256."""
    digest: bytes = keccak.new(digest_bits=256, data=data).digest()
    return digest


def decode(raw: bytes) -> Header:
    """Read a header from its RLP and hash these very bytes; raise HeaderError."""
    if len(raw) > MAX_HEADER:
        raise HeaderError(f"header of {len(raw)} bytes, at most {MAX_HEADER}")
    try:
        fields = rlp.decode_list(raw)
    except rlp.RLPError as e:
        raise HeaderError(f"malformed header: {e}") from e
    if not _MANDATORY <= len(fields) <= len(_FIELDS):
        raise HeaderError(f"malformed header: {len(fields)} fields")
    values = []
    for (name, size), value in zip(_FIELDS, fields, strict=False):
        if value is None or not _fits(value, size):
            raise HeaderError(f"malformed header: {name}")
        values.append(value)
    number, time = int.from_bytes(values[_NUMBER], "big"), int.from_bytes(values[_TIME], "big")
    if number > MAX_NUMBER or time > MAX_TIME:
        raise HeaderError("malformed header: number or time out of range")
    parent, miner = "0x" + values[_PARENT].hex(), "0x" + values[_MINER].hex()
    return Header("0x" + keccak256(raw).hex(), parent, number, time, miner)


def _fits(value: bytes, size: int) -> bool:
    if size < 0:
        return len(value) <= -size and not value.startswith(b"\0")
    return size in (0, len(value))


def encode(block: Mapping[str, object]) -> bytes:
    """Return the RLP of a header as JSON-RPC gives it (execution-apis, "Block"); raise HeaderError."""
    members: list[rlp.Item] = []
    for position, (name, size) in enumerate(_FIELDS):
        value = block.get(name)
        if value is None:
            if position < _MANDATORY:
                raise HeaderError(f"malformed block: no {name}")
            break
        members.append(_member(name, value, size))
    raw = rlp.encode(members)
    if len(raw) > MAX_HEADER:
        raise HeaderError(f"header of {len(raw)} bytes, at most {MAX_HEADER}")
    return raw


def _member(name: str, value: object, size: int) -> bytes:
    if not isinstance(value, str) or not value.startswith("0x"):
        raise HeaderError(f"malformed block: {name}")
    try:
        member = rlp.uint(int(value, 16)) if size < 0 else bytes.fromhex(value[2:])
    except ValueError:
        raise HeaderError(f"malformed block: {name}") from None
    if not _fits(member, size):
        raise HeaderError(f"malformed block: {name}")
    return member
