"""Other people's netstrings beside ours: what they send we take, what we send they take, and where they are laxer.

docs/WIRE.md has the table.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pynetstring
import pytest
from twisted.internet.testing import StringTransport
from twisted.protocols.basic import NetstringReceiver

from firstseen import netstring
from tests import vectors

VECTORS = vectors.load("netstring/testdata/vectors.json")
MAXIMUM = 4 << 20

Decoded = list[tuple[list[bytes], bool]]  # frames, and whether the stream was refused


class Receiver(NetstringReceiver):
    MAX_LENGTH = MAXIMUM

    def __init__(self) -> None:
        self.frames: list[bytes] = []

    def stringReceived(self, string: bytes) -> None:  # noqa: N802 - Twisted's name
        self.frames.append(string)


def twisted(streams: list[bytes]) -> Decoded:
    out = []
    for stream in streams:
        receiver: Any = Receiver()
        transport = StringTransport()
        receiver.makeConnection(transport)
        receiver.dataReceived(stream)
        out.append((receiver.frames, bool(transport.disconnecting)))
    return out


def py_netstring(streams: list[bytes]) -> Decoded:
    out = []
    for stream in streams:
        decoder, frames, refused = pynetstring.Decoder(MAXIMUM), [], False
        try:
            for byte in stream:  # in pieces, or frames before a wrong byte would be lost with it
                frames += decoder.feed(bytes((byte,)))
        except pynetstring.ParseError:
            refused = True
        out.append((frames, refused))
    return out


def npm_netstring(streams: list[bytes]) -> Decoded:
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        pytest.skip("needs Node and npm")
    here = vectors.ROOT / "python/tests/npm"
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "firstseen/npm-peers"
    if not (cache / "node_modules/netstring").is_dir():
        shutil.copytree(here, cache, dirs_exist_ok=True)
        subprocess.run([npm, "ci", "--silent", "--no-audit", "--no-fund"], cwd=cache, check=True)
    run = ["node", "--no-deprecation", str(here / "decode.js")]
    env = os.environ | {"NODE_PATH": str(cache / "node_modules")}
    lines = "".join(s.hex() + "\n" for s in streams)
    result = subprocess.run(run, input=lines.encode(), env=env, check=True, capture_output=True)
    answers = [json.loads(line) for line in result.stdout.splitlines()]
    return [([bytes.fromhex(f) for f in a["frames"]], a["refused"]) for a in answers]


PEERS: dict[str, Callable[[list[bytes]], Decoded]] = {
    "Twisted": twisted,
    "pynetstring": py_netstring,
    "npm netstring": npm_netstring,
}

# The kinds of errors of which each lets something pass: it hands out a frame that is none, or waits for more of it.
LAX = {
    "Twisted": set[str](),
    "pynetstring": {"leading_zero"},
    "npm netstring": {"comma", "too_large"},
}


@pytest.mark.parametrize("peer", PEERS)
def test_what_we_send_they_take(peer: str) -> None:
    good = [c for c in VECTORS["good"] if c["max"] == MAXIMUM]
    got = PEERS[peer]([b"".join(netstring.encode(bytes.fromhex(f)) for f in c["frames"]) for c in good])
    for case, (frames, refused) in zip(good, got, strict=True):
        assert (frames, refused) == ([bytes.fromhex(f) for f in case["frames"]], False), case["name"]


def test_what_they_send_we_take() -> None:
    contents = [bytes.fromhex(f) for c in VECTORS["good"] for f in c["frames"]]
    sender: Any = Receiver()
    transport = StringTransport()
    sender.makeConnection(transport)
    for content in contents:
        sender.sendString(content)
    for stream in (transport.value(), b"".join(pynetstring.encode(contents))):
        assert list(netstring.Decoder(MAXIMUM).feed(stream)) == contents


@pytest.mark.parametrize("peer", PEERS)
def test_where_they_are_laxer(peer: str) -> None:
    bad: list[dict[str, Any]] = [c for c in VECTORS["bad"] if c["max"] == MAXIMUM and c["error"] != "truncated"]
    got = PEERS[peer]([bytes.fromhex(c["stream"]) for c in bad])
    lax = set()
    for case, (frames, refused) in zip(bad, got, strict=True):
        if not refused or len(frames) > len(case["frames"]):
            lax.add(case["error"])
    assert lax == LAX[peer]
