from typing import Any

import pytest

from firstseen import netstring
from tests import vectors

VECTORS = vectors.load("netstring/testdata/vectors.json")
PIECES = [1, 3, 1 << 20]


def decode(case: dict[str, Any], piece: int) -> tuple[list[bytes], netstring.NetstringError | None]:
    stream, frames = bytes.fromhex(case["stream"]), []
    decoder = netstring.Decoder(case["max"])
    try:
        for at in range(0, len(stream), piece):
            frames += list(decoder.feed(stream[at : at + piece]))
        decoder.end()
    except netstring.NetstringError as e:
        return frames, e
    return frames, None


@pytest.mark.parametrize("case", VECTORS["good"], ids=lambda c: c["name"])
def test_good(case: dict[str, Any]) -> None:
    want = [bytes.fromhex(f) for f in case["frames"]]
    for piece in PIECES:
        assert decode(case, piece) == (want, None)
    assert b"".join(map(netstring.encode, want)).hex() == case["stream"]


@pytest.mark.parametrize("case", VECTORS["bad"], ids=lambda c: c["name"])
def test_bad(case: dict[str, Any]) -> None:
    # Byte by byte, what comes before the wrong byte is handed out before it arrives.
    frames, error = decode(case, 1)
    assert frames == [bytes.fromhex(f) for f in case["frames"]]
    for piece in PIECES:
        _, error = decode(case, piece)
        assert error is not None
        assert (error.kind, error.offset) == (case["error"], case["offset"])


def test_refuses_once_the_wrong_byte_is_there() -> None:
    for case in VECTORS["bad"]:
        if case["error"] == "truncated":
            continue
        decoder = netstring.Decoder(case["max"])
        with pytest.raises(netstring.NetstringError):
            list(decoder.feed(bytes.fromhex(case["stream"])[: case["offset"] + 1]))
        with pytest.raises(netstring.NetstringError):
            list(decoder.feed(b"1:a,"))
