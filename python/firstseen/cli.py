"""The command line: python -m firstseen, with the flags of the Go binary."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys

import click

from firstseen import __version__, config, wire
from firstseen.config import Duration, option
from firstseen.database import Database, DatabaseError
from firstseen.server import Options, Server
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
    if not wire.valid_name(name):
        raise click.UsageError("--name must be 1 to 64 of A-Z a-z 0-9 . _ -")
    at, on = config.address(listen)
    options = Options(at, on, name, redis, print, connections, drain, beat=beat)
    database = open_database(db)
    try:
        asyncio.run(_serve(Server(options, Store(database))))
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


async def _serve(server: Server) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await server.run(stop)
