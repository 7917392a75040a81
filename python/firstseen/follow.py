"""From a node's head to blocks handed on: every one, in order, the branch of a reorganisation included."""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from firstseen import raw, wire
from firstseen.node import Block, Head, Node, NodeError
from firstseen.spool import Spool
from firstseen.templates import Template

MAX_REORG: Final = 512  # blocks that are walked back to find where a branch leaves
_REPORT_EVERY: Final = 5.0  # seconds; a report counts for 25

_log: Final = logging.getLogger("firstseen.client")


@dataclass
class Shared:
    """What follower and link tell each other. Each field is set by one and read by the other."""

    chain: int = 0  # 0 until a node told
    named: threading.Event = field(default_factory=threading.Event)
    positions: Sequence[wire.Position] = ()
    welcomed: threading.Event = field(default_factory=threading.Event)
    report: bytes = b""  # the latest S, b"" while there is none
    reported: float = 0.0  # when it was made
    stop: threading.Event = field(default_factory=threading.Event)
    failed: str = ""  # why the program must end


@dataclass(frozen=True)
class Options:
    """How an observer follows the chain; times in seconds."""

    name: str
    nodes: Sequence[Node]
    template: Template
    poll: float = 1.0
    receipts: bool = True
    backfill: int = 10_000
    start: str = "tip"
    start_over: bool = False
    raw: bool = False


class Follower:
    """Hands blocks to the spool."""

    def __init__(self, options: Options, spool: Spool, shared: Shared) -> None:
        self._o, self._spool, self._shared = options, spool, shared
        self._gaps: list[dict[str, Any]] = []
        self._last: tuple[int, str] | None = None  # the block handed on last
        self._next = 0  # where to go on while there is none
        self._begun = False
        self._said = ""

    def run(self) -> None:
        """Follow until told to stop."""
        while not self._shared.stop.is_set():
            began = time.monotonic()
            try:
                self._once()
                self._say("")
            except NodeError as e:
                self._say(str(e))
            except Exception as e:
                self._shared.failed = f"cannot follow the chain: {e}"
                self._shared.stop.set()
                raise
            self._shared.stop.wait(max(0, self._o.poll - (time.monotonic() - began)))

    def _say(self, trouble: str) -> None:
        """Log when trouble begins, changes or ends."""
        if trouble != self._said:
            _log.warning("%s", trouble) if trouble else _log.info("nodes answer again")
        self._said = trouble

    def _once(self) -> None:
        node, head = self._tip()
        if not self._begun and not self._begin(head):
            return
        self._reach(node, head)
        self._report(node, head)

    def _tip(self) -> tuple[Node, Head]:
        """Return the highest verified head, and who has it."""
        best: tuple[Node, Head] | None = None
        trouble = "no node answers"
        for node in self._o.nodes:
            try:
                node.chain = node.chain or node.chain_id()
                self._shared.chain = self._shared.chain or node.chain
                if node.chain != self._shared.chain:
                    raise NodeError(f"{node.name}: is on chain {node.chain}, not {self._shared.chain}")
                head = node.head()
                if head and (best is None or head.number > best[1].number):
                    best = node, head
            except NodeError as e:
                trouble = str(e)
                node.chain = node.chain if "is on chain" in trouble else 0  # it may be another one when it is back
        if best is None:
            raise NodeError(trouble)
        if not self._shared.named.is_set():
            self._spool.claim(self._o.name, self._shared.chain)
            self._shared.named.set()
        return best

    def _begin(self, head: Head) -> bool:
        """Find out where to go on: behind the spool's last block, the store's, or where --start says."""
        chain, start = self._shared.chain, self._o.start
        self._last = self._spool.last(chain)
        if self._last is None and not self._o.start_over:
            if not self._shared.welcomed.wait(self._o.poll):
                return False
            for p in self._shared.positions:
                if p.chain == chain:
                    self._last = p.number, p.hash
                    self._spool.remember(chain, [self._last])
                    _log.info("going on after the last block stored number=%d", p.number)
        self._next = head.number if start == "tip" else 0 if start == "earliest" else int(start)
        self._begun = True
        return True

    def _reach(self, node: Node, head: Head) -> None:
        """Hand on whatever leads to the head. A head that was handed on, or one before it, is no news."""
        chain = self._shared.chain
        while not self._shared.stop.is_set() and not self._spool.knows(chain, head.hash):
            number = self._last[0] + 1 if self._last else self._next
            if number > head.number and self._last is None:
                return  # the chain has not reached --start
            low = head.number - self._o.backfill
            if number <= low:
                self._skip(number, low)
                continue
            block = node.by_number(number) if number < head.number else node.by_hash(head.hash)
            for b in self._branch(node, block):
                if not self._hand_on(node, b, "head" if b.head.hash == head.hash else "backfill"):
                    return

    def _skip(self, first: int, last: int) -> None:
        """Leave out heights that are too many, and say so."""
        reason = f"more than {self._o.backfill} blocks behind"
        _log.warning("heights %d to %d are left out: %s", first, last, reason)
        self._gaps.append({"chain": self._shared.chain, "from": first, "to": last, "reason": reason})
        self._last, self._next = None, last + 1

    def _branch(self, node: Node, top: Block) -> list[Block]:
        """Return the blocks from the last one known up to this one: more than one after a reorganisation."""
        blocks = [top]
        while self._last and not self._spool.knows(self._shared.chain, blocks[-1].head.parent):
            low = blocks[-1].head
            if low.number == 0 or len(blocks) >= MAX_REORG or low.number + MAX_REORG < self._last[0]:
                _log.error("block %d does not lead back to what was handed on", top.head.number)
                break
            blocks.append(node.by_hash(low.parent))
        return blocks[::-1]

    def _hand_on(self, node: Node, block: Block, origin: Literal["head", "backfill"]) -> bool:
        if self._o.receipts:
            block = node.with_receipts(block)
        observation = wire.Observation(
            self._shared.chain, block.header, block.head.hash, node.name, time.time_ns() // 1000,
            self._o.template.content_type, origin, block.transactions, self._raw(block),
        )  # fmt: skip
        payload = self._o.template.render(block.view)
        try:
            content = wire.data(observation, payload)
        except wire.WireError as e:
            if e.code != "size" or not observation.raw:
                raise
            _log.warning("raw JSON left off: %s number=%d", e, block.head.number)
            content = wire.data(dataclasses.replace(observation, raw=b""), payload)
        if not self._spool.add(content, self._shared.chain, block.head.number, block.head.hash):
            return False
        self._last = block.head.number, block.head.hash
        return True

    def _raw(self, block: Block) -> bytes:
        """Return the raw part, empty where none is wanted or the node's answers are not as a server verifies them."""
        if not self._o.raw:
            return b""
        try:
            packed = raw.pack(block.answer, block.receipts)
            raw.verify(block.head.hash, *raw.unpack(packed))
        except raw.RawError as e:
            _log.warning("raw JSON left off: %s number=%d", e, block.head.number)
            return b""
        return packed

    def _report(self, node: Node, head: Head) -> None:
        """Make the S that the link sends: at each new head, and often enough to count as live."""
        report: dict[str, Any] = {"heads": [{"chain": self._shared.chain, "node": node.name, "latest": _point(head)}]}
        for tag in ("safe", "finalized"):
            try:
                if found := node.head(tag):
                    report["heads"][0][tag] = _point(found)
            except NodeError:
                pass
        if self._gaps:
            report["gaps"] = self._gaps
        content = wire.status(report)
        if content != self._shared.report or time.monotonic() - self._shared.reported > _REPORT_EVERY:
            self._shared.reported, self._shared.report = time.monotonic(), content


def _point(head: Head) -> dict[str, object]:
    return {"number": head.number, "hash": head.hash}
