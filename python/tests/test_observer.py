"""The observer against a node that the test owns: conformance's, whose blocks it can change."""

import contextlib
import json
import random
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conformance.chain import Block, grow
from conformance.node import node

from firstseen import follow, templates, wire
from firstseen.node import Node, NodeError
from firstseen.spool import Spool, SpoolError


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@contextlib.contextmanager
def following(url: str, spool: Spool, **options: object) -> Iterator[follow.Shared]:
    shared = follow.Shared()
    shared.welcomed.set()
    template = templates.DEFAULTS["block.txt"]
    settings = {"nodes": [Node("n1", url)], "start": "0", **options}
    o = follow.Options("alice", template=template, poll=0.02, **settings)  # type: ignore[arg-type]
    thread = threading.Thread(target=follow.Follower(o, spool, shared).run)
    thread.start()
    try:
        yield shared
    finally:
        shared.stop.set()
        spool.stop()
        thread.join()
    assert not shared.failed


def hashes(spool: Spool) -> list[str]:
    return [wire.parse_data(e.content)[0].hash for e in spool.after(0, 10_000)]


def test_every_block_and_the_branch_of_a_reorganisation() -> None:
    blocks = grow(8)
    live = list(blocks[:6])
    with node(live) as url, following(url, spool := Spool(None, 1 << 20)) as shared:
        eventually(lambda: len(hashes(spool)) == 6)
        live.append(blocks[6])
        eventually(lambda: len(hashes(spool)) == 7)
        branch = [Block(4, blocks[3].hash, b"other")]
        for n in range(5, 9):
            branch.append(Block(n, branch[-1].hash, b"other"))
        live[4:] = branch
        eventually(lambda: len(hashes(spool)) == 12)
        assert hashes(spool) == [b.hash for b in [*blocks[:7], *branch]]
        eventually(lambda: branch[-1].hash.encode() in shared.report)
        origins = [wire.parse_data(e.content)[0].origin for e in spool.after(0, 100)]
        assert origins[5] == origins[6] == origins[-1] == "head"
        assert set(origins[:5]) == {"backfill"}
        wire.parse_status(shared.report)


def test_the_next_process_goes_on_where_the_last_one_ended(tmp_path: Path) -> None:
    blocks, path = grow(9), tmp_path / "spool"
    live = list(blocks[:4])
    with node(live) as url:
        first = Spool(path, 1 << 20)
        with following(url, first):
            eventually(lambda: len(hashes(first)) == 4)
        first.done(first.after(0, 2))
        first.bury(first.after(0, 1)[0], "data", "no")
        first.close()
        live += blocks[4:]
        second = Spool(path, 1 << 20)
        with following(url, second):
            eventually(lambda: len(hashes(second)) == 7)
        assert hashes(second) == [b.hash for b in blocks[3:]]
        with pytest.raises(SpoolError):
            second.claim("bob", 1)


def test_a_full_spool_makes_the_chain_wait() -> None:
    live = list(grow(9))
    with node(live) as url, following(url, spool := Spool(None, 5000)):
        eventually(lambda: len(hashes(spool)) == 2)
        seen = hashes(spool)
        assert len(seen) == 2
        while len(seen) < 10:
            spool.done(spool.after(0, 1))
            eventually(lambda: hashes(spool)[-1] not in seen)
            seen.append(hashes(spool)[-1])
        assert seen == [b.hash for b in live]


def test_too_many_blocks_behind_are_a_gap_that_is_told() -> None:
    live = list(grow(9))
    with node(live) as url, following(url, spool := Spool(None, 1 << 20), backfill=3) as shared:
        eventually(lambda: bool(shared.report))
        assert hashes(spool) == [b.hash for b in live[7:]]
        (gap,) = wire.parse_status(shared.report)["gaps"]
        assert (gap["from"], gap["to"]) == (0, 6)


def raws(spool: Spool) -> list[bytes]:
    return [wire.parse_data(e.content)[0].raw for e in spool.after(0, 100)]


def test_raw_parts_are_the_nodes_own_json() -> None:
    blocks = list(grow(3))
    with node(blocks) as url:
        n = Node("n1", url, raw=True)
        with following(url, spool := Spool(None, 1 << 20), nodes=[n], raw=True):
            eventually(lambda: len(hashes(spool)) == 4)
        for block, part in zip(blocks, raws(spool), strict=True):
            text = zlib.decompress(part, wbits=31)
            assert text == b'{"block":%s,"receipts":[]}' % json.dumps(block.json()).encode()
        for options in ({"receipts": False, "raw": True, "nodes": [n]}, {"nodes": [n]}):
            with following(url, spool := Spool(None, 1 << 20), **options):
                eventually(lambda: len(hashes(spool)) == 4)
            if "raw" in options:
                assert b'"receipts":null' in zlib.decompress(raws(spool)[0], wbits=31)
            else:
                assert raws(spool) == [b""] * 4


def test_raw_parts_are_left_off_where_the_node_is_wrong_or_they_do_not_fit() -> None:
    class Astray(Block):
        def json(self) -> dict[str, Any]:
            return super().json() | {"Number": "0x7"}

    class Large(Block):
        def json(self) -> dict[str, Any]:
            return super().json() | {"later": random.Random(1).randbytes(5 << 20).hex()}

    for bad in Astray(0), Large(0):
        with (
            node([bad, Block(1, bad.hash)]) as url,
            following(url, spool := Spool(None, 1 << 24), nodes=[Node("n1", url, raw=True)], raw=True),
        ):
            eventually(lambda: len(hashes(spool)) == 2)
            without, part = raws(spool)
            assert (without, bool(part)) == (b"", True)


def test_what_a_node_says_is_computed_again() -> None:
    class Liar(Block):
        def json(self) -> dict[str, Any]:
            return super().json() | {"gasLimit": "0x1"}

    with node([Block(0), Liar(1, Block(0).hash)]) as url:
        n = Node("liar", url)
        assert n.chain_id() == 1
        n.chain = 1
        assert n.by_number(0).head.hash == Block(0).hash
        with pytest.raises(NodeError, match="the header gives"):
            n.head()
        with pytest.raises(NodeError, match="no such method"):
            n.call("admin_peers")
    with pytest.raises(NodeError):
        n.head()


class Busy(Block):
    """A block with a transfer, a creation that succeeded and one that failed."""

    def json(self) -> dict[str, Any]:
        txs = [
            {
                "hash": "0x" + f"{i:064X}",
                "transactionIndex": hex(i),
                "from": "0x" + "AA" * 20,
                "to": to,
                "value": hex(i),
            }
            for i, to in enumerate(["0x" + "BB" * 20, None, None], 0)
        ]
        return super().json() | {"transactions": txs}


def receipts(block: Block, **changed: object) -> list[dict[str, Any]]:
    common = {"blockHash": block.hash, "gasUsed": "0x5208", "contractAddress": "0x" + "CC" * 20}
    return [
        common | {"transactionHash": "0x" + f"{i:064x}", "transactionIndex": hex(i), "status": status} | changed
        for i, status in enumerate(["0x1", "0x1", "0x0"])
    ]


def test_receipts_are_taken_only_if_they_belong_to_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    with node([busy := Busy(0)]) as url:
        n = Node("n1", url)
        block = n.by_number(0)
        assert [t.to for t in block.transactions] == ["0x" + "bb" * 20, None, None]
        answer: list[Any] = [receipts(busy)]
        monkeypatch.setattr(n, "_call", lambda *_: (answer[0], b""))
        taken = n.with_receipts(block).transactions
        assert [(t.gas_used, t.status, t.contract) for t in taken] == [
            (21000, 1, None), (21000, 1, "0x" + "cc" * 20), (21000, 0, None),
        ]  # fmt: skip
        for answer[0] in (
            None, [], receipts(busy)[:2], receipts(busy)[::-1], receipts(busy, blockHash="0x" + "00" * 32),
            receipts(busy, gasUsed="0x" + "ff" * 8), receipts(busy, status="0x2"), receipts(busy, gasUsed=None),
        ):  # fmt: skip
            assert n.with_receipts(block).transactions == block.transactions
