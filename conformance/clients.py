"""What a client must do: the runner is its server, and its node.

There are two kinds. An observer polls the node at {node} and goes on for ever. A feeder reads lines of JSON from its
standard input, `{"meta": {...}, "payload": "..."}`, sends a frame of each and ends; it need not come back after a lost
connection, but then its exit code must not be 0.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import re
import signal
import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

from conformance.chain import Block, grow, keccak256
from conformance.node import node
from conformance.peer import PATIENCE, Miss, Peer, frame, parse_json, shown, want
from conformance.process import Program
from conformance.table import Check

Kind = Literal["observer", "feeder"]
BLOCKS = 20


class Rig:
    """A client under test, with the server that it connects to and the blocks that it is to send."""

    def __init__(
        self, kind: Kind, listener: socket.socket, blocks: Sequence[Block], program: Callable[[], Program]
    ) -> None:
        self.kind = kind
        self._listener = listener
        self.blocks = blocks[1:]  # the store has block 0
        self._base = blocks[0]
        self.caps: Sequence[str] = ()  # of the latest HELLO
        self.program = program()

    def accept(self, within: float = PATIENCE) -> Peer:
        """Return the client's next connection."""
        self._listener.settimeout(within)
        try:
            sock, _ = self._listener.accept()
        except TimeoutError:
            raise Miss(f"no connection: {self.program.said()}") from None
        return Peer(sock)

    def hello(self, within: float = PATIENCE) -> Peer:
        """Return the next connection after its HELLO, which is looked at."""
        peer = self.accept(within)
        content = peer.expect("HELLO")
        match = re.fullmatch(rb"<!--firstseen/1 (.*)-->", content, re.DOTALL)
        if match is None or b"-->" in match[1] or len(content) > 4096:
            raise Miss(f"want HELLO, got {shown(content)}")
        said = parse_json(match[1])
        want(re.fullmatch(r"[A-Za-z0-9._-]{1,64}", str(said.get("observer"))), "HELLO without observer")
        want(self._base.chain in said.get("chains", []), f"HELLO without chain {self._base.chain}")
        self.caps = said.get("caps") or []
        return peer

    def greet(self, frames: int = 1024, size: int = 4 << 20, *, raw: bool = False) -> Peer:
        """Return the next connection after HELLO and W."""
        peer = self.hello()
        welcome = {
            "server": "conformance", "session": "s", "window_frames": frames, "window_bytes": size,
            "max_frame": 4 << 20, "ping_ms": 10000, "dead_ms": 25000, "caps": ["raw"] if raw else [],
            "chains": [{"chain": self._base.chain, "number": self._base.number, "hash": self._base.hash}],
        }  # fmt: skip
        peer.send(b"W" + json.dumps(welcome).encode())
        return peer

    def data(self, peer: Peer, block: Block | None = None) -> str:
        """Take frames until a D without a raw part, which is looked at, and return its block's hash."""
        key, meta, _ = self.parts(peer, block)
        want("raw" not in meta, "a raw part that was not agreed on")
        return key

    def parts(self, peer: Peer, block: Block | None = None) -> tuple[str, dict[str, object], bytes]:
        """Take frames until a D, which is looked at, and return its block's hash, its JSON and what is behind that."""
        while (content := peer.expect("D"))[:1] in (b"S", b"O"):
            if content[:1] == b"S":
                parse_json(content[1:])
        want(content[:1] == b"D", f"want D, got {shown(content)}")
        text, found, rest = content[1:].partition(b"\n")
        want(found, "D without a line feed")
        meta = parse_json(text)
        raw = bytes.fromhex(str(meta.get("header"))[2:])
        got = "0x" + keccak256(raw).hex()
        want(meta.get("hash") == got, "a D whose hash is not its header's")
        want(meta.get("chain") == self._base.chain, "a D of another chain")
        want(meta.get("origin") in ("head", "backfill"), "a D without origin")
        for name in ("node", "observed_at", "content_type"):
            want(isinstance(meta.get(name), str), f"a D without {name}")
        if block is not None:
            want(got == block.hash, f"want block {block.number}, got {self.number(got)}")
        return got, meta, rest

    def number(self, key: str) -> str:
        """Return a block's number by its hash, for people."""
        return next((str(b.number) for b in self.blocks if b.hash == key), key)

    def no_data(self, peer: Peer, seconds: float, what: str) -> None:
        """Miss if a D comes within so many seconds."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            try:
                content = peer.read(left)
            except Miss as e:
                want("in time" in str(e), f"{what}: {e}")
                return
            if content is None:
                raise Miss(f"{what}: the connection ended")
            want(content[:1] != b"D", f"{what}: a D came")

    def bye(self, peer: Peer) -> None:
        """Take the client's leave; an observer is told to end."""
        if self.kind == "observer":
            self.program.signal(signal.SIGTERM)
        while (content := peer.expect("B"))[:1] in (b"S", b"O"):
            pass
        want(content == b"B", f"want B, got {shown(content)}")
        peer.close()
        want(self.program.wait() == 0, f"exit code {self.program.process.returncode}: {self.program.said()}")


def checks(kind: Kind, command: str) -> list[Check]:
    """Return the checks of a client that the command starts."""
    named: dict[str, Callable[[Rig], None]] = {
        "hello: nothing more before W": patient,
        "data: every block, in order, then B": deliver,
        "window: frames": frame_window,
        "window: bytes, but always one frame": byte_window,
        "acks: in any portions": portions,
        "refusal: goes on, not sent again": refused,
        "control: a ping is answered": ping,
        "control: what is lower case is skipped": skip,
        "fatal: stop ends the program": stop,
        "drain: nothing new, then B": drain,
    }
    if kind == "observer":
        named |= {
            "reconnect: everything unacked again, in order": resend,
            "reconnect: after E retry": retry,
            "reconnect: with every cut of a frame": cuts,
            "drain: goes on elsewhere": move_on,
            "raw: sent where both sides name the cap, left out where not": raw_parts,
            "acks: a mark beyond what was sent ends the link": partial(spoilt, b"4:A9 f,"),
            "acks: flags that do not fit the mark end the link": partial(spoilt, b"5:A1 ff,"),
            "framing: a bad length ends the link": partial(spoilt, b"04:A1 f,"),
            "control: unknown upper case ends the link": partial(spoilt, b"1:X,"),
            "control: what only clients say ends the link": partial(spoilt, b"1:B,"),
            "silence: no W in 5 s": unanswered,
            "silence: 25 s without a word": dead,
        }
    slow = {"silence: no W in 5 s", "silence: 25 s without a word"}

    def own(check: Callable[[Rig], None]) -> Callable[[], None]:
        def run() -> None:
            with rig(kind, command) as r:
                try:
                    check(r)
                except Miss as e:
                    raise Miss(f"{e}\nthe client's last words: {r.program.said()[-600:]}") from None

        return run

    return [Check(name, own(check), name in slow) for name, check in named.items()]


@contextlib.contextmanager
def rig(kind: Kind, command: str) -> Iterator[Rig]:
    """Run a client against a server and a node of the runner's."""
    blocks = grow(BLOCKS)
    with (
        tempfile.TemporaryDirectory(prefix="conformance-") as folder,
        socket.create_server(("127.0.0.1", 0)) as listener,
        node(blocks) as url,
    ):
        lines = [json.dumps({"meta": b.meta(), "payload": b.payload.decode()}) + "\n" for b in blocks[1:]]
        port = listener.getsockname()[1]
        places = {"host": "127.0.0.1", "port": port, "address": f"127.0.0.1:{port}", "node": url, "folder": folder}
        stdin = "".join(lines).encode() if kind == "feeder" else None
        r: Rig | None = None
        try:
            r = Rig(kind, listener, blocks, lambda: Program(command, Path(folder), places, stdin))
            yield r
        finally:
            if r is not None:
                r.program.kill()


def patient(r: Rig) -> None:
    """HELLO, and then silence until W."""
    r.hello().quiet(1, "before W")


def deliver(r: Rig) -> None:
    """Everything, with an ack for each."""
    peer = r.greet()
    for n, block in enumerate(r.blocks, 1):
        r.data(peer, block)
        peer.send(b"A%d f" % n)
    r.bye(peer)


def frame_window(r: Rig) -> None:
    """Three unacknowledged frames and no more."""
    peer = r.greet(frames=3)
    for block in r.blocks[:3]:
        r.data(peer, block)
    r.no_data(peer, 0.7, "beyond the window")
    peer.send(b"A1 f")
    r.data(peer, r.blocks[3])
    r.no_data(peer, 0.5, "beyond the window")
    peer.send(b"A4 fff")
    for block in r.blocks[4:7]:
        r.data(peer, block)


def byte_window(r: Rig) -> None:
    """A window that a single frame exceeds."""
    peer = r.greet(size=100)
    for n, block in enumerate(r.blocks[:3], 1):
        r.data(peer, block)
        r.no_data(peer, 0.4, "beyond the window")
        peer.send(b"A%d d" % n)


def portions(r: Rig) -> None:
    """Acks of several frames at once, also in pieces of a byte."""
    peer = r.greet(frames=7)
    for block in r.blocks[:7]:
        r.data(peer, block)
    for byte in b"".join(map(frame, (b"A1 f", b"A5 dfdf", b"N6 data x", b"A7 d"))):
        peer.raw(bytes((byte,)))
    for n, block in enumerate(r.blocks[7:], 8):
        r.data(peer, block)
        peer.send(b"A%d f" % n)
    r.bye(peer)


def refused(r: Rig) -> None:
    """One frame is refused; the rest is settled and the refused one never comes again."""
    peer = r.greet(frames=5)
    for block in r.blocks[:5]:
        r.data(peer, block)
    peer.send(b"A2 ff", b"N3 header it is another", b"A5 fd")
    if r.kind == "feeder":
        for n, block in enumerate(r.blocks[5:], 6):
            r.data(peer, block)
            peer.send(b"A%d f" % n)
        want(peer.expect("B") == b"B", "no B")
        return
    for block in r.blocks[5:10]:
        r.data(peer, block)
    peer.close()
    peer = r.greet()
    for n, block in enumerate(r.blocks[5:], 1):
        r.data(peer, block)
        peer.send(b"A%d f" % n)
    r.bye(peer)


def ping(r: Rig) -> None:
    """P is answered by O."""
    peer = r.greet(frames=1)
    r.data(peer)
    peer.send(b"P")
    while (content := peer.expect("O"))[:1] == b"S":
        pass
    want(content == b"O", f"want O, got {shown(content)}")


def skip(r: Rig) -> None:
    """Frames of a later version."""
    peer = r.greet()
    r.data(peer, r.blocks[0])
    peer.send(b"x", b"later than 1", b"A1 f")
    for n, block in enumerate(r.blocks[1:], 2):
        r.data(peer, block)
        peer.send(b"z", b"A%d f" % n)
    r.bye(peer)


def stop(r: Rig) -> None:
    """E stop: a clear end, and no other connection."""
    peer = r.greet(frames=1)
    r.data(peer)
    peer.send(b"Estop auth the token is revoked")
    peer.half_close()
    want(r.program.wait() != 0, "the exit code is 0")
    with contextlib.suppress(Miss):
        r.accept(0.5)
        raise AssertionError  # no Miss: there was a connection
    peer.close()


def drain(r: Rig) -> None:
    """G with a full window: the acks are waited for, and nothing new is sent."""
    peer = r.greet(frames=2)
    for block in r.blocks[:2]:
        r.data(peer, block)
    peer.send(b"G10000", b"A2 ff")
    while (content := peer.expect("B"))[:1] in (b"S", b"O"):
        pass
    want(content == b"B", f"want B, got {shown(content)}")
    peer.close()
    if r.kind == "feeder":
        want(r.program.wait() != 0, "the exit code is 0 with blocks left")


def move_on(r: Rig) -> None:
    """G: what is left goes over another connection while this one still takes acks."""
    old = r.greet(frames=2)
    for block in r.blocks[:2]:
        r.data(old, block)
    old.send(b"G10000")
    new = r.greet()
    r.no_data(old, 0.3, "after G")
    old.send(b"A1 f")
    old.half_close()  # the second is never acknowledged here
    for n, block in enumerate(r.blocks[1:], 1):
        r.data(new, block)
        new.send(b"A%d d" % n)
    old.close()
    r.bye(new)


def resend(r: Rig) -> None:
    """A lost connection: what was not acknowledged comes again, in order, counted anew."""
    peer = r.greet(frames=6)
    for block in r.blocks[:6]:
        r.data(peer, block)
    peer.send(b"A2 ff")
    for block in r.blocks[6:8]:
        r.data(peer, block)
    peer.close()
    peer = r.greet()
    for n, block in enumerate(r.blocks[2:], 1):
        r.data(peer, block)
        peer.send(b"A%d %b" % (n, b"d" if n <= 6 else b"f"))
    r.bye(peer)


def retry(r: Rig) -> None:
    """E retry, as the answer to HELLO and later: it comes back, and everything is delivered."""
    peer = r.hello()
    peer.send(b"Eretry busy too many connections")
    peer.close()
    peer = r.greet(frames=1)
    r.data(peer, r.blocks[0])
    peer.send(b"Eretry store the database is away")
    peer.close()
    peer = r.greet()
    r.data(peer, r.blocks[0])


def cuts(r: Rig) -> None:
    """The connection ends inside W, inside an ack, behind one."""
    for cut in (b"5", b"168:W{", b"4:A1 "):
        peer = r.hello() if cut != b"4:A1 " else r.greet(frames=1)
        if cut == b"4:A1 ":
            r.data(peer, r.blocks[0])
        peer.raw(cut)
        peer.close()
    peer = r.greet()
    r.data(peer, r.blocks[0])


def spoilt(frames: bytes, r: Rig) -> None:
    """A server that breaks a rule is left, and nothing counts as acknowledged by it."""
    peer = r.greet(frames=1)
    r.data(peer, r.blocks[0])
    peer.raw(frames)
    while peer.expect_end_or_frame() is not None:
        pass
    peer.close()
    peer = r.greet()
    r.data(peer, r.blocks[0])


def raw_parts(r: Rig) -> None:
    """A raw part holds what the node answered; a server that does not take it gets the same frames without."""
    peer = r.greet(raw=True)
    want("raw" in r.caps, "HELLO does not name the cap: start the observer with its flag for raw JSON")
    payloads = []
    for block in r.blocks:
        _, meta, rest = r.parts(peer, block)
        size = meta.pop("raw", 0)
        want(isinstance(size, int) and 0 < size <= len(rest), f"raw is {size} of {len(rest)} bytes")
        payloads.append((meta, rest[: -int(str(size))]))
        raw = parse_json(gzip.decompress(rest[-int(str(size)) :]))
        want(raw == {"block": block.json(), "receipts": []}, f"block {block.number} is not as its node showed it")
    peer.close()
    peer = r.greet()
    for block, before in zip(r.blocks, payloads, strict=True):
        _, meta, rest = r.parts(peer, block)
        want((meta, rest) == before, f"without its raw part the frame of block {block.number} is another")
    peer.send(b"A%d %s" % (len(r.blocks), b"f" * len(r.blocks)))
    r.bye(peer)


def unanswered(r: Rig) -> None:
    """A server that does not speak relay mode."""
    peer, began = r.hello(), time.monotonic()
    peer.end("the end", 15)
    took = time.monotonic() - began
    want(took > 4, f"gave up after {took:.1f} s, want 5")
    peer.close()


def dead(r: Rig) -> None:
    """A server that falls silent."""
    peer, began = r.greet(), time.monotonic()
    while peer.expect_end_or_frame(40) is not None:
        pass
    took = time.monotonic() - began
    want(took > 20, f"gave up after {took:.1f} s, want 25")
    peer.close()


def bare(command: str) -> list[Check]:
    """Return the checks of a client in bare mode."""

    def run() -> None:
        with rig("observer", command) as r:
            seen: list[bytes] = []
            while len(seen) < 3:
                peer = r.accept()
                while (content := peer.read()) is not None:
                    want(not content.startswith(b"<!--firstseen/"), "HELLO in bare mode")
                    want(content, "an empty frame")
                    seen.append(content)
                    if len(seen) == 3:
                        break
                peer.close()

    return [Check("bare: payloads, and nothing else", run)]
