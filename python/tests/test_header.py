from typing import Any

import pytest

from firstseen import header, rlp
from tests import vectors

VECTORS = vectors.load("schema/testdata/headers.json")


@pytest.mark.parametrize("case", VECTORS["good"], ids=lambda c: c["name"])
def test_good(case: dict[str, Any]) -> None:
    raw = bytes.fromhex(case["rlp"][2:])
    assert header.decode(raw) == header.Header(
        case["hash"], case["parent"], case["number"], case["time"], case["fee_recipient"]
    )
    assert rlp.encode([m or b"" for m in rlp.decode_list(raw)]) == raw


@pytest.mark.parametrize("case", VECTORS["bad"], ids=lambda c: c["name"])
def test_bad(case: dict[str, Any]) -> None:
    with pytest.raises(header.HeaderError):
        header.decode(bytes.fromhex(case["rlp"][2:]))


def test_json_gives_the_same_header() -> None:
    names = [name for name, _ in header._FIELDS]
    for case in VECTORS["good"]:
        raw = bytes.fromhex(case["rlp"][2:])
        block = {}
        for (name, size), value in zip(header._FIELDS, rlp.decode_list(raw), strict=False):
            assert value is not None
            block[name] = hex(int.from_bytes(value, "big")) if size < 0 else "0x" + value.hex()
        assert set(block) <= set(names)
        assert header.encode(block) == raw
        del block["miner"]
        with pytest.raises(header.HeaderError):
            header.encode(block)
