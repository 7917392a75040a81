"""What this implementation shares with the others: migrations and the SQL of the ingest, from the repository's schema/.

A wheel carries a copy; in the repository they are read where they are.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final, Literal

Dialect = Literal["mysql", "sqlite"]

_PACKED: Final = Path(__file__).parent / "_schema"
_ROOT: Final = _PACKED if _PACKED.is_dir() else Path(__file__).parents[2] / "schema"


@dataclass(frozen=True)
class Insert:
    """A statement for any number of rows."""

    columns: list[str]
    text: str
    row: str
    tail: str


@dataclass(frozen=True)
class Texts:
    """The statements of one dialect; schema/ingest says what each is for."""

    batch_rows: int
    batch_offers: int
    batch_bytes: int
    session: list[str]
    inserts: dict[str, Insert]
    lookup: str
    counter: list[str]
    count_client: str
    mark: str
    has_mark: str
    forget_mark: str
    report: str
    positions: str
    refusals: list[int]


@cache
def texts(dialect: Dialect) -> Texts:
    """Return the SQL of the ingest."""
    raw = json.loads((_ROOT / "ingest" / f"{dialect}.json").read_text())
    del raw["about"]
    inserts = {name: Insert(**parts) for name, parts in raw.pop("inserts").items()}
    return Texts(inserts=inserts, **raw)


@cache
def migrations(dialect: Dialect) -> dict[int, str]:
    """Return the SQL of each version of the tables, in order."""
    files = sorted((_ROOT / "migrations" / dialect).glob("*.sql"))
    return {int(f.name.partition("_")[0]): f.read_text() for f in files}
