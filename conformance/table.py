"""Checks, run side by side, and the table of what came of them."""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from conformance.peer import Miss


@dataclass(frozen=True)
class Check:
    """One thing to find out. Slow ones take their time by design and are begun first."""

    name: str
    run: Callable[[], None]
    slow: bool = False


@dataclass(frozen=True)
class Result:
    """What came of a check: pass, or miss with the reason."""

    check: Check
    missed: str
    seconds: float


def inverted(check: Check) -> Callable[[], None]:
    """Return what passes exactly if the check misses."""

    def run() -> None:
        try:
            check.run()
        except Miss:
            return
        raise Miss(f"not noticed by the check {check.name!r}")

    return run


def run(checks: Sequence[Check], workers: int = 4) -> list[Result]:
    """Run the checks and return their results in the same order."""
    with ThreadPoolExecutor(max_workers=workers + sum(c.slow for c in checks)) as pool:
        futures = {c.name: pool.submit(_one, c) for c in sorted(checks, key=lambda c: not c.slow)}
        return [futures[c.name].result() for c in checks]


def _one(check: Check) -> Result:
    began, missed = time.monotonic(), ""
    try:
        check.run()
    except Miss as e:
        missed = str(e) or "miss"
    except Exception:  # noqa: BLE001 - the runner's own fault must not look like a pass, nor end the others
        missed = "the runner failed: " + traceback.format_exc()
    return Result(check, missed, time.monotonic() - began)


def show(title: str, results: Sequence[Result]) -> bool:
    """Print the table; true if nothing was missed."""
    width = max((len(r.check.name) for r in results), default=0)
    out = [title]
    for r in results:
        out.append(f"  {'MISS' if r.missed else 'ok  '} {r.check.name.ljust(width)} {r.seconds:6.1f} s")
        out += [f"         {line}" for line in r.missed.splitlines()]
    missed = sum(bool(r.missed) for r in results)
    out.append(f"  {len(results) - missed} passed, {missed} failed")
    sys.stdout.write("\n".join(out) + "\n")
    sys.stdout.flush()
    return missed == 0
