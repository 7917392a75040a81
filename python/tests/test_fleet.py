"""One fleet of both implementations: observers and servers of each, on one MariaDB and one Redis, geth as the chain."""

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pymysql
import pytest
import redis
import requests

from firstseen import database, netstring, templates
from firstseen.node import Node, NodeError
from tests import vectors

BLOCKS = 200 if os.environ.get("FIRSTSEEN_ACCEPT") else 9
REDIS_DB = 13  # of the tests' Redis


def eventually(condition: Callable[[], Any], what: str, within: float = 60) -> None:
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port: int = s.getsockname()[1]
        return port


class Fleet:
    def __init__(self, folder: Path, binary: Path) -> None:
        self.folder = folder
        self.commands = {"go": [str(binary)], "python": [sys.executable, "-m", "firstseen"]}
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        # Nothing of the tests' own settings, which the programs would take for theirs.
        self.env = {k: v for k, v in os.environ.items() if not k.startswith("FIRSTSEEN_")}
        self.env["FIRSTSEEN_SERVER__BEAT"] = "1s"

    def start(self, name: str, *arguments: str, command: str = "") -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            arguments = (*self.commands[command or name.partition("-")[0]], *arguments)
            self.running[name] = subprocess.Popen(arguments, stdout=log, stderr=log, env=self.env)

    def stop(self, name: str, number: signal.Signals = signal.SIGTERM) -> None:
        process = self.running.pop(name)
        process.send_signal(number)
        code = process.wait(60)
        assert number == signal.SIGKILL or code == 0, self.said(name)

    def said(self, name: str) -> str:
        return f"{name}: " + (self.folder / f"{name}.log").read_text(errors="replace")[-3000:]

    def end(self) -> None:
        for process in self.running.values():
            process.kill()
            process.wait()


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    binary = tmp_path / "firstseen"
    build = ["go", "build", "-trimpath", "-ldflags", "-s -w", "-o", str(binary), "./cmd/firstseen"]
    subprocess.run(build, cwd=vectors.ROOT, env=os.environ | {"CGO_ENABLED": "0"}, check=True)
    fleet = Fleet(tmp_path, binary)
    try:
        yield fleet
    finally:
        fleet.end()


def services() -> tuple[str, str, str]:
    names = ("FIRSTSEEN_TEST_MYSQL_DSN", "FIRSTSEEN_TEST_REDIS_URL", "FIRSTSEEN_TEST_GETH")
    dsn, cache, geth = (os.environ.get(name, "") for name in names)
    if not (dsn and cache and geth):
        pytest.skip("needs MariaDB, Redis and geth: run `make test`, or set FIRSTSEEN_TEST_*")
    return dsn, cache.rpartition("/")[0] + f"/{REDIS_DB}", geth


def new_database(server: str) -> str:
    name = "fleet_" + secrets.token_hex(6)
    at = database.parse_mysql(server + name)
    with pymysql.connect(host=at.host, port=at.port, user=at.user, password=at.password) as c, c.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {name}")
    return server + name


def test_both_implementations_in_one_fleet(fleet: Fleet) -> None:
    server, cache, geth = services()
    db = new_database(server)
    redis.Redis.from_url(cache).flushdb()
    subprocess.run([*fleet.commands["go"], "migrate", "--db", db], env=fleet.env, check=True, capture_output=True)
    shared = ["--db", db, "--redis", cache]
    port = {name: free_port() for name in ("geth", "authrpc", "p2p", "go", "python", "go-stats", "python-stats")}
    at = {name: f"127.0.0.1:{number}" for name, number in port.items()}
    fleet.commands["geth"] = [geth]
    ports = ["--http.port", str(port["geth"]), "--authrpc.port", str(port["authrpc"]), "--port", str(port["p2p"])]
    datadir = str(fleet.folder / "geth")
    fleet.start("geth", "--dev", "--dev.period", "1", "--datadir", datadir, "--ipcdisable", "--http", *ports)
    node = Node("geth", "http://" + at["geth"])
    eventually(lambda: answers(node), fleet.said("geth"))
    node.chain = node.chain_id()

    def serve(kind: str) -> None:
        fleet.start(f"{kind}-server", "server", "--listen", at[kind], "--name", f"{kind}-1", *shared)
        eventually(lambda: accepts(port[kind]), fleet.said(f"{kind}-server"))

    observers = [f"{mine}-to-{theirs}" for mine in ("go", "python") for theirs in ("go", "python")]
    for kind in ("go", "python"):
        serve(kind)
    fleet.start("go-stats", "stats", "--listen", at["go-stats"], *shared)
    fleet.start("python-stats", "stats", "--listen", at["python-stats"], "--db", db)
    for name in observers:
        to = at[name.rpartition("-")[2]]
        spool = str(fleet.folder / f"{name}.spool")
        fleet.start(name, "client", "--name", name, "--node", f"geth=http://{at['geth']}", "--server", to, "--spool",
                    spool, "--start", "earliest", "--start-over", "--poll", "200ms")  # fmt: skip

    def await_height(n: int) -> None:
        eventually(lambda: (head := node.head()) and head.number >= n, "geth stands still", BLOCKS + 60)

    eventually(lambda: connections(at["go-stats"]) == 4, "four observers were never counted")
    for part, kind in enumerate(("go", "python"), 1):
        await_height(BLOCKS * part // 3)
        fleet.stop(f"{kind}-server", signal.SIGKILL)
        serve(kind)
    await_height(BLOCKS)
    eventually(lambda: connections(at["go-stats"]) == 4, "four observers were never counted again")
    for kind in ("go", "python"):
        bare(port[kind], b"<p>from nobody</p>", b"<p>to %s</p>" % kind.encode())

    truth = [node.by_number(n) for n in range(BLOCKS + 1)]
    d = database.Database(db)

    def seen() -> int:
        query = "SELECT COUNT(*) FROM observations o JOIN records r ON r.id = o.record WHERE r.number <= ?"
        count: int = d.query(query, (BLOCKS,))[0][0]
        return count

    eventually(lambda: seen() >= 4 * len(truth), f"not every observer saw every block: {observers}")
    for name in observers:
        fleet.stop(name)
    eventually(lambda: d.query("SELECT COUNT(*) FROM unplaced")[0][0] == 0, "the judge left blocks")
    check_records(d, truth)
    check_feed(d)
    check_stats(at, d)
    for kind in ("go", "python"):
        fleet.stop(f"{kind}-server")
    d.close()


def answers(node: Node) -> bool:
    with contextlib.suppress(NodeError):
        return node.head() is not None
    return False


def accepts(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
        return True
    return False


def connections(address: str) -> int | None:
    with contextlib.suppress(requests.RequestException):
        total: int | None = requests.get(f"http://{address}/v1/connections", timeout=5).json().get("total")
        return total
    return None


def bare(port: int, *payloads: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port)) as s:
        s.sendall(b"".join(map(netstring.encode, payloads)))
        s.shutdown(socket.SHUT_WR)
        assert s.recv(1) == b""


def check_records(d: database.Database, truth: list[Any]) -> None:
    """Every block once, canonical, with the bytes that this implementation renders of what geth says."""
    query = (
        "SELECT number, `key`, status, payload, server FROM records WHERE chain > 0 AND number <= ? ORDER BY number, id"
    )
    rows = d.query(query, (BLOCKS,))
    assert [(n, "0x" + key) for n, key, *_ in rows] == [(b.head.number, b.head.hash) for b in truth]
    assert {status for _, _, status, *_ in rows} <= {"canonical", "safe", "finalized"}
    for block, row in zip(truth, rows, strict=True):
        assert row[3] == templates.DEFAULTS["block.html"].render(block.view)
    if BLOCKS >= 100:
        assert {row[4] for row in rows} == {"go-1", "python-1"}  # each was first at times


def check_feed(d: database.Database) -> None:
    """Without a gap, and leading to the statuses that the records have."""
    rows = d.query("SELECT seq, kind, chain, `key`, status, was FROM feed ORDER BY seq")
    assert [r[0] for r in rows] == list(range(1, len(rows) + 1))
    statuses: dict[tuple[int, str], str] = {}
    for _, kind, chain, key, status, was in rows:
        if kind in ("block", "bare"):
            assert (chain, key) not in statuses
        elif kind == "status":
            assert statuses[chain, key] == was
        if kind in ("block", "bare", "status"):
            statuses[chain, key] = status
    assert statuses == {(c, k): s for c, k, s in d.query("SELECT chain, `key`, status FROM records")}


def check_stats(at: dict[str, str], d: database.Database) -> None:
    """Both say the same, byte for byte where the formats are equal."""
    key = d.query("SELECT `key` FROM records ORDER BY id LIMIT 1")[0][0]

    def both(path: str) -> tuple[requests.Response, requests.Response]:
        go, python = (requests.get(f"http://{at[kind + '-stats']}{path}", timeout=10) for kind in ("go", "python"))
        return go, python

    for path in ("/_cat", "/_cat/hashes", "/_cat/clients", f"/_cat/hashes/{key}", "/_cat/hashes/" + "0" * 64):
        go, python = both(path)
        assert (go.status_code, go.content) == (python.status_code, python.content), path
    assert b"127.0.0.1 4\n" in both("/_cat/clients")[0].content

    def same() -> bool:
        go, python = (json.loads(r.content) for r in both("/v1/stats"))
        names = [n for n in python if n not in ("time", "chains", "servers", "observers", "connections")]
        chains = [[{k: c[k] for k in python["chains"][0]} for c in s["chains"]] for s in (go, python)]
        return [go[n] for n in names] == [python[n] for n in names] and chains[0] == chains[1]

    eventually(same, "the totals differ")
