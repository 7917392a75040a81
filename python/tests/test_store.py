import asyncio
import hashlib
import os
import random
import secrets
import time
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pymysql
import pytest

from firstseen import database, header, schema, store, wire
from tests import vectors

HEADERS = [c["rlp"] for c in vectors.load("schema/testdata/headers.json")["good"]]


@pytest.fixture(params=["sqlite", "mysql"])
def db(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[database.Database]:
    url = f"sqlite://{tmp_path}/test.db"
    if request.param == "mysql":
        server = os.environ.get("FIRSTSEEN_TEST_MYSQL_DSN")
        if not server:
            pytest.skip("needs MariaDB: run `make test`, or set FIRSTSEEN_TEST_MYSQL_DSN")
        name = "python_" + secrets.token_hex(6)
        at = database.parse_mysql(server + name)
        with pymysql.connect(host=at.host, port=at.port, user=at.user, password=at.password) as c, c.cursor() as cursor:
            cursor.execute(f"CREATE DATABASE {name}")
        url = f"{server}{name}?parseTime=true"
    db = database.Database(url)
    db.migrate()
    yield db
    db.close()


def block(n: int, done: Callable[[store.Settlement], None], observer: str = "alice") -> store.Offer:
    raw = bytes.fromhex(HEADERS[n % len(HEADERS)][2:])
    head = header.decode(raw)
    txs = [wire.Transaction("0x" + f"{n:064x}", 0, "0x" + "33" * 20, None, 2**255 + n, 21000, 1, "0x" + "44" * 20)]
    seen = wire.Observation(1 + n // len(HEADERS), raw, head.hash, "geth", 10**15, "text/html", "head", txs)
    payload = b"<p>'\\%s\xff%d</p>" % (b"x" * n, n)
    return store.Offer(
        seen.chain, head.hash[2:], payload, "text/html", "py-1", "::1", 10**15, done, head,
        seen, observer,
    )  # fmt: skip


def bare(payload: bytes, done: Callable[[store.Settlement], None]) -> store.Offer:
    key = hashlib.sha256(payload).hexdigest()
    return store.Offer(0, key, payload, "application/octet-stream", "py-1", "127.0.0.1", 10**15, done)


def run(db: database.Database, *stores: Callable[[store.Store], Awaitable[None]]) -> None:
    async def one(use: Callable[[store.Store], Awaitable[None]]) -> None:
        s = store.Store(db)
        s.start()
        await use(s)
        await s.stop()

    async def everyone() -> None:
        await asyncio.gather(*(one(use) for use in stores))

    asyncio.run(everyone())


async def settled(s: store.Store, make: list[Callable[[Any], store.Offer]]) -> list[store.Settlement]:
    answers = [asyncio.get_running_loop().create_future() for _ in make]
    for future, m in zip(answers, make, strict=True):
        await s.offer(m(future.set_result))
    return list(await asyncio.wait_for(asyncio.gather(*answers), 60))


def test_many_stores_one_first_each(db: database.Database) -> None:
    told: list[list[store.Settlement]] = []

    def use(observer: str) -> Callable[[store.Store], Awaitable[None]]:
        async def offer(s: store.Store) -> None:
            order = list(range(60))
            random.shuffle(order)
            answers = await settled(s, [partial(block, n, observer=observer) for n in order])
            told.append([a for _, a in sorted(zip(order, answers, strict=True), key=lambda pair: pair[0])])

        return offer

    run(db, *(use(f"observer-{i}") for i in range(4)))
    for outcomes in zip(*told, strict=True):
        assert sorted(o.flag for o in outcomes) == ["d", "d", "d", "f"]
    assert db.query("SELECT COUNT(*) FROM records")[0][0] == 60
    assert db.query("SELECT COUNT(*) FROM observations")[0][0] == 240
    assert db.query("SELECT COUNT(*) FROM unplaced")[0][0] == 60
    assert [r[0] for r in db.query("SELECT seq FROM feed ORDER BY seq")] == list(range(1, 61))
    payload, value = db.query(
        "SELECT r.payload, t.value FROM records r JOIN transactions t ON t.block = r.`key` AND t.chain = r.chain "
        "ORDER BY LENGTH(r.payload) DESC LIMIT 1"
    )[0]
    assert payload.endswith(b"\xff59</p>")
    assert int.from_bytes(value, "big") == 2**255 + 59


def test_what_was_committed_without_an_answer_counts_once(db: database.Database) -> None:
    """The COMMIT of each first attempt holds, but its answer is lost."""

    async def offer(s: store.Store) -> None:
        persisted = s._attempt

        def attempt(entries: Any, lost: bool) -> None:
            persisted(entries, lost)
            if not lost:
                raise store._CommitLostError("connection lost")

        s._attempt = attempt  # type: ignore[method-assign]
        answers = await settled(s, [lambda d: block(1, d), lambda d: bare(b"<p>", d), lambda d: bare(b"<p>", d)])
        assert [a.flag for a in answers] == ["f", "f", "d"]
        assert [a.flag for a in await settled(s, [lambda d: bare(b"<p>", d)])] == ["d"]

    run(db, offer)
    assert db.query("SELECT ip, count FROM clients") == [("127.0.0.1", 3)]
    assert db.query("SELECT COUNT(*) FROM ingest_marks")[0][0] == 0
    assert db.query("SELECT last_seq FROM feed_counter")[0][0] == 2


def test_a_row_that_cannot_be_stored_is_refused_alone(db: database.Database) -> None:
    async def offer(s: store.Store) -> None:
        def poison(done: Any) -> store.Offer:
            o = bare(b"<p>poison</p>", done)
            o.content_type = "x" * 129
            return o

        make: list[Any] = [lambda d, n=n: block(n, d) for n in range(9)]
        answers = await settled(s, [*make[:4], poison, *make[4:]])
        assert [a.flag for a in answers] == ["f"] * 4 + [""] + ["f"] * 5
        assert answers[4].refused
        assert answers[4].reason

    run(db, offer)
    assert db.query("SELECT last_seq FROM feed_counter")[0][0] == 9


def test_reports_are_left_to_the_judge(db: database.Database) -> None:
    store.Store(db).report("alice", b'{"heads":[]}')
    ((observer, report, at),) = db.query("SELECT observer, report, received_at FROM reports")
    assert (observer, report) == ("alice", b'{"heads":[]}')
    assert abs(at / 1e6 - time.time()) < 60
    assert store.Store(db).positions([1, 2**64 - 1]) == []


def test_migrations_are_booked_as_the_go_implementation_does(db: database.Database) -> None:
    db.migrate()  # again
    rows = [r[0] for r in db.query("SELECT version_id FROM goose_db_version ORDER BY id")]
    assert rows == [0, *schema.migrations(db.dialect)]
    db.check()


def test_an_unreachable_database_is_one_line_without_the_password() -> None:
    db = database.Database("mysql://root:hunter2@127.0.0.1:1/firstseen")
    with pytest.raises(database.DatabaseError) as e:
        db.check()
    assert "hunter2" not in str(e.value)
    assert "127.0.0.1:1" in str(e.value)
    for url in ("", "mysql://", "postgres://h/d", "sqlite:", "sqlite:///no/such/folder/x.db", "mysql://h/d?x=1"):
        with pytest.raises(database.DatabaseError):
            database.Database(url)
