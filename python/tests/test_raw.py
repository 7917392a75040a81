import zlib
from typing import Any

import pytest

from firstseen import raw, wire
from tests import vectors

VECTORS = vectors.load("schema/testdata/raw.json")


def check(case: dict[str, Any]) -> None:
    raw.verify(case["hash"], *raw.unpack(bytes.fromhex(case["hex"])))


@pytest.mark.parametrize("case", VECTORS["good"], ids=lambda c: c["name"])
def test_good(case: dict[str, Any]) -> None:
    check(case)
    text = zlib.decompress(bytes.fromhex(case["hex"]), wbits=31)
    assert raw.member(text, "block") == case["block"].encode()
    assert raw.member(text, "receipts") == case.get("receipts", "null").encode()
    receipts = case["receipts"].encode() if "receipts" in case else None
    packed = raw.pack(case["block"].encode(), receipts)
    raw.verify(case["hash"], *raw.unpack(packed))


@pytest.mark.parametrize("case", VECTORS["bad"], ids=lambda c: c["name"])
def test_bad(case: dict[str, Any]) -> None:
    with pytest.raises(raw.RawError) as refused:
        check(case)
    assert wire.clean(str(refused.value)) == str(refused.value)


def test_a_bomb_is_not_decompressed() -> None:
    packer = zlib.compressobj(wbits=31)
    bomb = packer.compress(b'{"block":"' + bytes(4 * raw.MAX_RAW)) + packer.flush()
    with pytest.raises(raw.RawError, match="above"):
        raw.unpack(bomb)
    with pytest.raises(raw.RawError, match="above"):
        raw.pack(b"x" * raw.MAX_RAW, None)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000])
def test_nesting_is_bounded(text: str) -> None:
    packer = zlib.compressobj(wbits=31)
    packed = packer.compress(b'{"receipts":null,"block":{"a":' + text.encode()) + packer.flush()
    with pytest.raises(raw.RawError):
        raw.unpack(packed)


def test_member_finds_no_member_where_there_is_none() -> None:
    assert raw.member(b"{}", "result") is None
    assert raw.member(b'{ "id" : 1 , "x" : {"result": 2} }', "result") is None
    assert raw.member(b'{"id":1,"r\\u0065sult": [ 1.0 ] }', "result") == b"[ 1.0 ]"
