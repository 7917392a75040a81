"""One connection's data frames, counted from 1: which are open, how each was settled, what the client was told."""

from __future__ import annotations

from collections import deque

from firstseen import wire
from firstseen.netstring import encode


class Ledger:
    """Settlements come in any order; what is told is a growing prefix."""

    def __init__(self) -> None:
        self.mark = 0  # frames up to here have been told
        self._sizes: deque[int] = deque()  # of the open frames
        self._bytes = 0
        self._settled: dict[int, str | wire.Refusal] = {}

    @property
    def unsettled(self) -> int:
        """How many open frames are not settled."""
        return len(self._sizes) - len(self._settled)

    def admit(self, size: int) -> int | None:
        """Open the next frame and return its number; None if the window has no room. One frame is always allowed."""
        if self._sizes and (len(self._sizes) >= wire.WINDOW_FRAMES or self._bytes + size > wire.WINDOW_BYTES):
            return None
        self._sizes.append(size)
        self._bytes += size
        return self.mark + len(self._sizes)

    def settle(self, n: int, outcome: str | wire.Refusal) -> None:
        """Note how an open frame ended: its flag, or its refusal."""
        self._settled[n] = outcome

    def take(self) -> bytes:
        """Return the A and N frames that tell the settled prefix, and move the mark behind it."""
        frames, flags = [], ""
        while (outcome := self._settled.pop(self.mark + 1, None)) is not None:
            if isinstance(outcome, wire.Refusal):
                frames += self._tell(flags)
                frames.append(encode(wire.refusal(outcome)))
                flags = ""
            else:
                flags += outcome
            self.mark += 1
            self._bytes -= self._sizes.popleft()
        return b"".join(frames + self._tell(flags))

    def _tell(self, flags: str) -> list[bytes]:
        return [encode(wire.ack(self.mark, flags))] if flags else []
