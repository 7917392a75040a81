"""What a server must do."""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from conformance.chain import Block, grow
from conformance.peer import Miss, Peer, Relay, parse_json, shown, want
from conformance.process import Server, eventually, server
from conformance.table import Check
from conformance.vectors import load

HELLO = b'<!--firstseen/1 {"observer":"conformance-1","chains":[1]}-->'


def checks(command: str, beside: str) -> list[Check]:
    """Return the checks of a server that the command starts."""

    def own(check: Callable[[Server], None]) -> Callable[[], None]:
        def run() -> None:
            with server(command, beside) as s:
                try:
                    check(s)
                except Miss as e:
                    raise Miss(f"{e}\nthe server's last words: {s.main.said()[-600:]}") from None

        return run

    named: dict[str, Callable[[Server], None]] = {
        "framing: netstrings good and bad, bare mode": framing,
        "bare: closed at once, nothing is lost": bare_burst,
        "bare: silence": bare_silence,
        "hello: every variant that is refused": hellos,
        "data: what is refused, and how it is counted": refusals,
        "data: headers of every fork": headers,
        "data: raw parts, good and bad": raw_parts,
        "control: frames that end the link": fatal_frames,
        "acks: cumulative, in order, after refusals too": cumulative,
        "acks: never before the commit": commit_first,
        "acks: one first per block, whoever sends it": one_first,
        "acks: what was acked outlives kill -9": killed,
        "window: exceeded": window,
        "drain: HELLO on a connection that is there already": late_hello,
    }
    dialogues = load("schema/testdata/dialogue.json")["dialogues"]
    return [Check(name, own(check), check is window) for name, check in named.items()] + [
        Check("dialogue: " + d["name"], own(partial(dialogue, d)), "seconds" in d) for d in dialogues
    ]


def framing(s: Server) -> None:
    """Every vector of the codec as a bare connection: what is stored, and that the rest ends it."""
    vectors = load("netstring/testdata/vectors.json")
    expected = set()
    for case in vectors["good"] + vectors["bad"]:
        if case["max"] != 4194304:
            continue
        frames = [bytes.fromhex(f) for f in case["frames"]]
        stored = frames[: frames.index(b"")] if b"" in frames else frames
        expected |= {hashlib.sha256(f).hexdigest() for f in stored}
        ends_itself = len(stored) < len(frames) or case.get("error", "truncated") != "truncated"
        peer = Peer(s.connect())
        peer.raw(bytes.fromhex(case["stream"]))
        if not ends_itself:
            peer.half_close()
        try:
            peer.end("silence and the end", 10)
        except Miss as e:
            raise Miss(f"{case['name']}: {e}") from None
        peer.close()
    eventually(lambda: expected <= set(s.keys()), "a payload was not stored")
    wrong = set(s.keys()) - expected
    want(not wrong, f"{len(wrong)} records that no good frame brought")


def bare_burst(s: Server) -> None:
    """Many frames, then a close without reading: an answer of the server would destroy what it has not read yet."""
    payloads = [b"<p>burst %d</p>" % n for n in range(1000)]
    peer = Peer(s.connect())
    peer.send(*payloads)
    peer.close()
    expected = {hashlib.sha256(p).hexdigest() for p in payloads}
    eventually(lambda: expected <= set(s.keys()), "not all payloads were stored")


def bare_silence(s: Server) -> None:
    """Not a byte while frames come, nor behind the last."""
    peer = Peer(s.connect())
    for n in range(3):
        peer.send(b"<p>silence %d</p>" % n)
        peer.quiet(0.3, "an answer to a bare client")
    eventually(lambda: len(s.keys()) == 3, "not all payloads were stored")
    peer.quiet(0.3, "an answer to a bare client, after the commit")
    peer.half_close()
    peer.end()


def fatal_of(content: bytes) -> tuple[str, str]:
    """Return retry or stop, and the code."""
    match = re.fullmatch(rb"E(retry|stop) ([a-z0-9_]{1,32}) (.*)", content, re.DOTALL)
    if match is None:
        raise Miss(f"want E, got {shown(content)}")
    want(len(match[3]) <= 200, "the text of an E is too long")
    return match[1].decode(), match[2].decode()


def hellos(s: Server) -> None:
    """Each bad HELLO of the vectors gets one E and is not stored."""
    for case in load("schema/testdata/wire.json")["bad"]:
        if case["type"] != "hello":
            continue
        peer = Peer(s.connect())
        peer.send(bytes.fromhex(case["hex"]))
        try:
            got = fatal_of(peer.expect("E"))
            want(got == ("stop", case["code"]), f"want E stop {case['code']}, got {got}")
            peer.half_close()
            peer.end()
        except Miss as e:
            raise Miss(f"{case['name']}: {e}") from None
        peer.close()
    want(not s.keys(), "a HELLO was stored")


def refusals(s: Server) -> None:
    """Each bad D of the vectors is refused and counted, and the link goes on."""
    blocks, outcomes = iter(grow(400)), []
    relay = Relay(s.connect())
    for case in load("schema/testdata/wire.json")["bad"]:
        if case["type"] == "data":
            relay.offer(bytes.fromhex(case["hex"]), next(blocks).data())
            outcomes += [case["code"], "f"]
    wrong = next(blocks)
    relay.offer(wrong.data(hash="0x" + "ba" * 32), wrong.data())
    outcomes += ["header", "f"]
    got = relay.settle()
    want(got == outcomes, f"outcomes {got}, want {outcomes}")
    relay.bye()


def headers(s: Server) -> None:
    """One header of each fork's shape, and those that are none."""
    relay, outcomes, keys = Relay(s.connect()), [], set()
    vectors = load("schema/testdata/headers.json")
    for case in vectors["good"]:
        relay.offer(Block(0).data(header=case["rlp"], hash=case["hash"]))
        outcomes.append("f")
        keys.add(case["hash"][2:])
    for case in vectors["bad"]:
        relay.offer(Block(0).data(header=case["rlp"], hash="0x" + "ab" * 32))
        outcomes.append("header" if case["rlp"] != "0x" else "meta")
    got = relay.settle()
    want(got == outcomes, f"outcomes {got}, want {outcomes}")
    want(set(s.keys()) == keys, "other records than the good headers'")
    relay.bye()


def fatal_frames(s: Server) -> None:
    """Each bad S, O and B of the vectors, and what a client may not say at all, ends the link."""
    cases = [c for c in load("schema/testdata/wire.json")["bad"] if c["type"] in ("status", "pong", "bye")]
    contents = [(c["name"], c["code"], bytes.fromhex(c["hex"])) for c in cases]
    contents += [(f"type {t}", "protocol", t.encode()) for t in ("A1 f", "W{}", "X", "P", "1")]
    for name, code, content in contents:
        relay = Relay(s.connect())
        relay.send(content)
        try:
            got = fatal_of(relay.expect("E"))
            want(got == ("stop", code), f"want E stop {code}, got {got}")
            relay.half_close()
            relay.end()
        except Miss as e:
            raise Miss(f"{name}: {e}") from None
        relay.close()


def cumulative(s: Server) -> None:
    """Frames as fast as they go, new ones, duplicates and bad ones mixed."""
    blocks, outcomes = grow(400)[:300], []
    relay = Relay(s.connect())
    for n, block in enumerate(blocks):
        relay.offer(block.data(payload=b"x" * (n * 37 % 5000)))
        outcomes.append("f")
        if n % 3 == 0:
            relay.offer(blocks[n // 2].data())
            outcomes.append("d")
        if n % 5 == 0:
            relay.offer(block.data(hash="0x" + "ba" * 32))
            outcomes.append("header")
        if n % 7 == 0:
            relay.send(b"x is skipped", b"S{}", b"O")
    got = relay.settle()
    want(got == outcomes, "outcomes are not those of the frames, in their order")
    want(set(s.keys()) == {b.key for b in blocks}, "other records than the blocks")
    relay.bye()


def commit_first(s: Server) -> None:
    """While the database cannot commit, nothing is acknowledged; what is acknowledged is there."""
    relay, block = Relay(s.connect()), Block(1)
    with s.sql() as db:
        db.execute("BEGIN IMMEDIATE")
        relay.offer(block.data())
        deadline = time.monotonic() + 1.5
        while (left := deadline - time.monotonic()) > 0:
            try:
                content = relay.read(left)
            except Miss:
                break
            want(content == b"P", f"while the database is locked: {shown(content or b'the end')}")
        db.execute("ROLLBACK")
    want(relay.settle() == ["f"], "the block was not stored afterwards")
    want(s.keys() == [block.key], "acknowledged and not in the database")
    relay.bye()


def one_first(s: Server) -> None:
    """Eight observers send the same blocks at once."""
    blocks, told, misses = grow(400)[:61], [], []
    frames = [b.data() for b in blocks]

    def observe(n: int) -> None:
        try:
            relay = Relay(s.connect(), f"observer-{n}")
            relay.offer(*frames)
            told.append(relay.settle())
            relay.bye()
        except Miss as e:
            misses.append(str(e))

    threads = [threading.Thread(target=observe, args=(n,)) for n in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    want(not misses, "; ".join(misses))
    for n in range(len(frames)):
        flags = sorted(outcomes[n] for outcomes in told)
        want(flags == ["d"] * 7 + ["f"], f"block {n} is told {flags}")
    with s.sql() as db:
        (seen,) = db.execute("SELECT COUNT(*) FROM observations").fetchone()
        want(seen == 8 * len(frames), f"{seen} observations of {8 * len(frames)}")
        rows = [r[0] for r in db.execute("SELECT seq FROM feed ORDER BY seq")]
        want(rows == list(range(1, len(rows) + 1)), "the feed has gaps")


def killed(s: Server) -> None:
    """What was acknowledged before a kill -9 is a duplicate after it."""
    blocks = grow(400)
    relay = Relay(s.connect())
    relay.offer(*(b.data() for b in blocks))
    while len(relay.ledger.told) < 50:
        relay.listen()
    s.kill()
    acked = len(relay.ledger.told)
    relay.close()
    s.start()
    stored = set(s.keys())
    want({b.key for b in blocks[:acked]} <= stored, "an acknowledged block is gone")
    relay = Relay(s.connect())
    relay.offer(*(b.data() for b in blocks))
    told = relay.settle()
    want(set(told[:acked]) == {"d"}, "an acknowledged block was stored again")
    want(len(s.keys()) == len(blocks), "not every block is there once")
    relay.bye()


def window(s: Server) -> None:
    """One frame more than the window, while nothing can be settled."""
    frames = [Block(1).data(payload=b"")] * 1025
    relay = Relay(s.connect())
    want(relay.welcome["window_frames"] == 1024, "the window is not 1,024 frames")
    with s.sql() as db:
        db.execute("BEGIN IMMEDIATE")
        for content in frames:
            relay.ledger.sent += 1
            relay.send(content)
        time.sleep(8)  # the server must have read the last frame before the first is settled
        db.execute("ROLLBACK")
    while (content := relay.expect("E"))[:1] != b"E":
        if content != b"P":
            relay.ledger.take(content)
    want(fatal_of(content) == ("stop", "protocol"), f"want E stop protocol, got {shown(content)}")
    want(len(relay.ledger.told) <= 1024, "a frame beyond the window was settled")


def late_hello(s: Server) -> None:
    """A server that is going sends away who says HELLO only now."""
    held, peer = Relay(s.connect()), Peer(s.connect())
    time.sleep(0.5)  # both are accepted
    s.stop()
    want(held.expect("G")[:1] == b"G", "no G")
    peer.send(HELLO)
    got = fatal_of(peer.expect("E"))
    want(got == ("retry", "busy"), f"want E retry busy, got {got}")
    held.bye()
    peer.half_close()
    peer.end()
    peer.close()
    want(s.main.wait() == 0, "the exit code is not 0")


# Dialogues.


def dialogue(d: dict[str, Any], s: Server) -> None:
    """Replay a conversation."""
    peer = Peer(s.connect())
    for number, step in enumerate(d["steps"]):
        try:
            peer = replay(s, peer, step, d["steps"][:number])
        except Miss as e:
            raise Miss(f"step {number}, {step['do']} {step.get('text', '')[:60]}: {e}") from None
    peer.close()
    eventually(lambda: len(s.keys()) >= len(d["stored"]), "not everything was stored")
    want(s.keys() == d["stored"], f"stored {s.keys()}, want {d['stored']}")
    want(raw_keys(s) == set(d.get("raws", [])), "raw parts beside other records than expected")


def raw_keys(s: Server) -> set[str]:
    """Return the keys of the records with a raw part."""
    with s.sql() as db:
        return {r[0] for r in db.execute("SELECT key FROM records JOIN raws ON record = id")}


def raw_parts(s: Server) -> None:
    """Each raw part of the vectors: what is stored, and what is refused."""
    vectors = load("schema/testdata/raw.json")
    relay = Relay(s.connect(), caps=("raw", "later"))
    want(relay.welcome.get("caps") == ["raw"], "the cap raw is not taken")
    # Those that only roots give away stand for what a server may take, and so come behind the good ones.
    cases = sorted(vectors["bad"] + vectors["good"], key=lambda c: bool(c.get("roots")))
    sent = [(c, bytes.fromhex(c["hex"])) for c in cases if c["hex"]]
    relay.offer(*(Block(0).data(header=c["header"], hash=c["hash"], raw=len(part)) + part for c, part in sent))
    expected: dict[str, bytes] = {}
    for (case, part), got in zip(sent, relay.settle(), strict=True):
        if case in vectors["good"]:
            want(got in ("f", "d"), f"{case['name']}: {got}, want it stored")
            expected.setdefault(case["hash"][2:], part)
        elif not case.get("roots"):
            want(got == "raw", f"{case['name']}: {got}, want N raw")
    relay.bye()
    with s.sql() as db:
        stored = dict(db.execute("SELECT key, body FROM records JOIN raws ON record = id").fetchall())
    want(expected.items() <= stored.items(), "a raw part is not stored as it came")


def replay(s: Server, peer: Peer, step: dict[str, str], before: list[dict[str, str]]) -> Peer:
    """Do one step and return the connection to go on with."""
    raw = bytes.fromhex(step.get("hex", ""))
    match step["do"]:
        case "send":
            peer.raw(raw)
        case "trickle":
            for byte in raw:
                peer.raw(bytes((byte,)))
        case "expect":
            return expect(s, peer, raw, before)
        case "half_close":
            peer.half_close()
        case "end":
            peer.end()
        case "reconnect":
            peer.close()
            return Peer(s.connect())
        case "drain":
            s.stop()
        case other:
            raise Miss(f"the runner knows no step {other}")
    return peer


def expect(s: Server, peer: Peer, raw: bytes, before: list[dict[str, str]]) -> Peer:
    """Compare what comes with what is expected.

    A W is asked for again: positions may follow a commit a little later.
    """
    again = before[-2:] if [b["do"] for b in before[-2:]] == ["reconnect", "send"] else []
    deadline = time.monotonic() + 10
    while raw:
        size, _, rest = raw.partition(b":")
        wanted, raw = rest[: int(size)], rest[int(size) + 1 :]
        got = peer.expect(shown(wanted), 60)
        while again and comparable(got) != comparable(wanted) and time.monotonic() < deadline:
            time.sleep(0.1)
            for step in again:
                peer = replay(s, peer, step, [])
            got = peer.expect(shown(wanted))
        want(comparable(got) == comparable(wanted), f"got {shown(got)}, want {shown(wanted)}")
    return peer


def comparable(content: bytes) -> object:
    """Leave out what is the server's own to choose: the session, ancestors of positions, texts for people."""
    if content[:1] == b"W":
        welcome = parse_json(content[1:])
        want(re.fullmatch(r"[A-Za-z0-9._-]{1,64}", str(welcome.pop("session", ""))), "no session")
        for position in welcome.get("chains") or []:
            position.pop("back", None)  # which may be absent
        return json.dumps(welcome, sort_keys=True)
    if content[:1] in b"NE":
        return content.split(b" ")[:2]
    return content
