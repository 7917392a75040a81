"""The command line: python -m firstseen, with the flags of the Go binary."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import click

from firstseen import __version__, config, fields, follow, link, templates
from firstseen.config import Duration, option
from firstseen.database import Database, DatabaseError
from firstseen.node import Node
from firstseen.server import Options, Server
from firstseen.spool import Spool, SpoolError
from firstseen.stats import HTTP, Stats
from firstseen.store import Store


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, package_name="firstseen")
@click.option("-v", "--verbose", is_flag=True, help="log debugging detail")
@option("--log-level", "log.level", default="info", type=click.Choice(["debug", "info", "warn", "error"]))
def main(verbose: bool, log_level: str) -> None:
    """Record every block of an Ethereum chain once, by whoever saw it first; in Python.

    Everything can be set by flag or environment, as FIRSTSEEN_SECTION__KEY: FIRSTSEEN_SERVER__LISTEN.
    """
    level = "DEBUG" if verbose else {"warn": "WARNING"}.get(log_level, log_level.upper())
    logging.basicConfig(level=level, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s %(message)s")


def demo_mysql(host: str, user: str, password: str, db: str) -> str:
    """Return the URL that the original demo's flags stand for."""
    from urllib.parse import quote

    where = host if host.rpartition(":")[2].isdigit() else host + ":3306"
    return f"mysql://{quote(user, safe='')}:{quote(password, safe='')}@{where}/{db}"


@main.command()
@option("--listen", "server.listen", default="127.0.0.1:9999", help="host:port to listen on")
@option("--name", "server.name", default="", help="name of this server, unique among them (default: the machine's)")
@option(
    "--db", "db", default="sqlite:firstseen.db", help="sqlite:///path/to/file or mysql://user:password@host:port/db"
)
@option("--redis", "redis", default="", help="redis://host:port/db for connection counts across processes")
@option("--print", "server.print", default=False, is_flag=True, help="print every payload as DATA - ip:port - payload")
@option("--connections", "server.connections", default=10_000, type=click.IntRange(1), help="most connections at once")
@option("--drain", "server.drain", default=10.0, type=Duration(), help="time for observers to move elsewhere")
@option("--beat", "server.beat", default=5.0, type=Duration(), help="between beats of presence")
@click.option("--host", hidden=True)
@click.option("--port", hidden=True, type=int)
@click.option("--use-redis", is_flag=True, hidden=True)
@click.option("--redis-host", hidden=True)
@click.option("--redis-port", hidden=True, type=int)
@click.option("--redis-db", hidden=True, type=int)
@click.option("--use-mysql", is_flag=True, hidden=True)
@click.option("--mysql-host", hidden=True)
@click.option("--mysql-user", hidden=True)
@click.option("--mysql-pass", hidden=True)
@click.option("--mysql-db", hidden=True)
def server(
    listen: str, name: str, db: str, redis: str, print: bool, connections: int, drain: float, beat: float,  # noqa: A002
    host: str | None, port: int | None, use_redis: bool, redis_host: str | None, redis_port: int | None,
    redis_db: int | None, use_mysql: bool, mysql_host: str | None, mysql_user: str | None, mysql_pass: str | None,
    mysql_db: str | None,
) -> None:  # fmt: skip
    """Take blocks from observers and store each once.

    Blocks are stored as non_canonical: a server of the Go implementation on the same database, or `firstseen judge`,
    decides which are canonical.
    """
    if host or port:
        listen = f"{host or 'localhost'}:{port or 9999}"
    if use_redis:
        if redis_host is None or redis_port is None or redis_db is None:
            raise click.UsageError("--use-redis needs --redis-host, --redis-port and --redis-db")
        redis = f"redis://{redis_host}:{redis_port}/{redis_db}"
    if use_mysql:
        if mysql_host is None or mysql_user is None or mysql_pass is None or mysql_db is None:
            raise click.UsageError("--use-mysql needs --mysql-host, --mysql-user, --mysql-pass and --mysql-db")
        db = demo_mysql(mysql_host, mysql_user, mysql_pass, mysql_db)
    name = name or config.host_name()
    if not fields.valid_name(name):
        raise click.UsageError("--name must be 1 to 64 of A-Z a-z 0-9 . _ -")
    at, on = config.address(listen)
    options = Options(at, on, name, redis, print, connections, drain, beat=beat)
    database = open_database(db)
    try:
        asyncio.run(_serve(options, Store(database)))
    except* OSError as group:
        raise click.ClickException("; ".join(str(e) for e in group.exceptions)) from None
    finally:
        database.close()


def open_database(url: str) -> Database:
    """Connect to the database. A SQLite file is brought up to date by itself, a shared one is not."""
    try:
        database = Database(url)
        if database.path:
            database.migrate()
        database.check()
    except DatabaseError as e:
        raise click.ClickException(f"{e} (the database is set by --db)") from None
    return database


async def _serve(options: Options, store: Store) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await Server(options, store).run(stop)


@main.command()
@option("--node", "client.node", default=("http://127.0.0.1:8545",), multiple=True, help="URL of a node, or name=URL")
@option("--server", "client.server", default=("127.0.0.1:9999",), multiple=True, help="host:port of a server")
@option("--bare", "client.bare", default=False, is_flag=True, help="speak to an original server: no acknowledgements")
@option("--poll", "client.poll", default=1.0, type=Duration(), help="time between looks at the latest block")
@option("--template", "client.template", default="block.html", type=click.Choice(list(templates.DEFAULTS)))
@option("--receipts", "client.receipts", default="auto", type=click.Choice(["auto", "off"]))
@option("--raw", "client.raw", default=False, is_flag=True, help="send the node's own JSON of blocks and receipts, too")
@option("--backfill", "client.backfill", default=10_000, type=click.IntRange(1), help="most blocks to catch up with")
@option("--name", "client.name", default="", help="name of this observer (default: the machine's)")
@option("--spool", "client.spool", default="", help="file that keeps what is not delivered (default: in memory)")
@option("--spool-bytes", "client.spool_bytes", default=1 << 30, type=click.IntRange(1), help="most bytes in the spool")
@option("--start", "client.start", default="tip", help="where to begin an unknown chain: tip, earliest, or a height")
@option("--start-over", "client.start_over", default=False, is_flag=True, help="begin at --start in any case")
@option("--drain", "client.drain", default=5.0, type=Duration(), help="time to deliver what is left at the end")
@click.option("--host", hidden=True)
@click.option("--port", hidden=True, type=int)
@click.option("--wait", hidden=True, type=float)
def client(
    node: Sequence[str], server: Sequence[str], bare: bool, poll: float, template: str, receipts: str, raw: bool,
    backfill: int, name: str, spool: str, spool_bytes: int, start: str, start_over: bool, drain: float,
    host: str | None, port: int | None, wait: float | None,
) -> None:  # fmt: skip
    """Observe nodes and relay their blocks to servers."""
    if host or port:
        server = [f"{host or 'localhost'}:{port or 9999}"]
    name = name or config.host_name()
    raw = raw and not bare
    nodes = [_node(i, text, raw) for i, text in enumerate(node, 1)]
    if not fields.valid_name(name) or not all(fields.valid_name(n.name) for n in nodes):
        raise click.UsageError("names must be 1 to 64 of A-Z a-z 0-9 . _ -")
    if start not in ("tip", "earliest") and not start.isdigit():
        raise click.UsageError("--start must be tip, earliest or a height")
    follows = follow.Options(
        name, nodes, templates.DEFAULTS[template], wait or poll, receipts == "auto", backfill, start, start_over, raw
    )
    delivers = link.Options(name, [config.address(s) for s in server], bare, drain, raw)
    try:
        kept = Spool(Path(spool) if spool else None, spool_bytes)
    except SpoolError as e:
        raise click.ClickException(str(e)) from None
    shared = follow.Shared()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: shared.stop.set())
    follower = threading.Thread(target=follow.Follower(follows, kept, shared).run, name="follower", daemon=True)
    linker = threading.Thread(target=link.Link(delivers, kept, shared).run, name="link", daemon=True)
    follower.start()
    linker.start()
    shared.stop.wait()
    kept.stop()
    linker.join(drain + 5)
    follower.join(1)
    if shared.failed:
        raise click.ClickException(shared.failed)


def _node(number: int, text: str, raw: bool) -> Node:
    """Read a URL, or name=URL."""
    name, equals, url = text.partition("=")
    named = equals and "/" not in name
    return Node(name if named else f"node-{number}", url if named else text, raw=raw)


@main.command()
@option("--listen", "stats.listen", default="127.0.0.1:8080", help="host:port to listen on")
@option(
    "--db", "db", default="sqlite:firstseen.db", help="sqlite:///path/to/file or mysql://user:password@host:port/db"
)
def stats(listen: str, db: str) -> None:
    """Serve /_cat and /v1/stats."""
    database = open_database(db)
    try:
        http = HTTP(config.address(listen), Stats(database))
    except OSError as e:
        raise click.ClickException(f"listen on {listen}: {e}") from None
    logging.getLogger("firstseen").info("listening component=stats addr=%s:%d", *http.server_address[:2])
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: threading.Thread(target=http.shutdown).start())
    http.serve_forever()
    http.server_close()
    database.close()
