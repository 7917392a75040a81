import asyncio
import json
from pathlib import Path

import pytest

from firstseen import database, store
from firstseen.stats import Stats
from tests.test_store import bare, block, settled


@pytest.fixture
def stats(tmp_path: Path) -> Stats:
    db = database.Database(f"sqlite://{tmp_path}/test.db")
    db.migrate()

    async def fill() -> None:
        s = store.Store(db)
        s.start()
        await settled(s, [lambda d: bare(b"<p>1</p>", d), lambda d: block(1, d), lambda d: block(1, d, "bob")])
        await s.stop()

    asyncio.run(fill())
    return Stats(db)


def test_pages_of_the_demo(stats: Stats) -> None:
    assert stats.answer("/").headers == {"Location": "/_cat"}
    assert stats.answer("/_cat").body == b"=^.^=\n/_cat/hashes\n/_cat/hashes/{hash}\n/_cat/clients\n"
    assert stats.answer("/_cat/clients").body == b"client    count\n127.0.0.1 1\n"
    key = "16de9dfa12664d7331c84ac261051ef5ebe566d03dae3faf5e45825fb04bcdbc"
    header, *rows = stats.answer("/_cat/hashes").body.decode().splitlines()
    assert header == "hash" + " " * 61 + "timestamp"
    assert f"{key} 1000000000.0000" in rows
    assert stats.answer("/_cat/hashes/0x" + key.upper().replace("0X", "")).body == b"<p>1</p>"
    for unknown in (key[:-1] + "0", "x", key + "0"):
        missing = stats.answer("/_cat/hashes/" + unknown)
        assert (missing.status, missing.body) == (404, b"Hash not found\n")


def test_totals(stats: Stats) -> None:
    answer = stats.answer("/v1/stats")
    totals = json.loads(answer.body)
    assert answer.content_type == "application/json"
    names = ("records", "blocks", "bare", "transactions", "observations", "duplicates", "feed_seq")
    assert [totals[name] for name in names] == [2, 1, 1, 1, 2, 1, 2]
    assert totals["observers"] == [{"observer": "alice", "first": 1}]
    assert totals["servers"] == [{"server": "py-1", "records": 2}]
    assert totals["connections"]["total"] is None


def test_health_and_unknown_paths(stats: Stats) -> None:
    assert stats.answer("/livez").status == stats.answer("/readyz").status == 200
    unknown = stats.answer("/nothing")
    assert (unknown.status, unknown.content_type) == (404, "application/problem+json")
