"""The TCP ingest: takes frames from observers and acknowledges what is committed."""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from dataclasses import dataclass
from typing import Final

from firstseen.connection import Connection, Relay
from firstseen.presence import Publisher, dial
from firstseen.store import Store

_CROWD: Final = 8  # beyond the limit and an eighth of it, connections wait in the kernel's queue
_PING_LOOK: Final = 0.5  # seconds
_STOP_GRACE: Final = 5.0

_log: Final = logging.getLogger("firstseen.server")


@dataclass(frozen=True)
class Options:
    """How a server runs; times in seconds."""

    host: str
    port: int
    name: str
    redis: str = ""
    print: bool = False
    connections: int = 10_000
    drain: float = 10.0
    bare_drain: float = 10.0
    beat: float = 5.0
    first_frame: float = 300.0


class Server:
    """Made and run once, by run."""

    def __init__(self, options: Options, store: Store) -> None:
        self._options = options
        self.store = store
        self.name = options.name
        self.connections = options.connections
        self.first_frame = options.first_frame
        self.relays = 0
        self.verifying = asyncio.Semaphore(1)  # of raw parts, each of which may take some hundred MB for a moment
        self.touched: set[Relay] = set()  # with settlements to tell, until the batch is answered
        self.address: asyncio.Future[str] = asyncio.get_running_loop().create_future()  # host:port, once it listens
        self._tasks: dict[asyncio.Task[None], Connection] = {}
        self._presence: Publisher | None = None
        self._ends: tuple[float, float] | None = None  # of relay and bare connections, while draining

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until told to stop, then drain: no new connections, a while for those that are there."""
        self.store.flush = self._flush
        self.store.start()
        o = self._options
        listener = socket.create_server(
            (o.host, o.port), family=socket.AF_INET6 if ":" in o.host else socket.AF_INET, backlog=1024
        )
        listener.setblocking(False)
        host, port = listener.getsockname()[:2]
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self.address.set_result(address)
        _log.info("listening component=server addr=%s", address)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._accept(listener)), group.create_task(self._ping())]
            if o.redis:
                self._presence = Publisher(dial(o.redis), o.name, address, o.beat)
                self._count()
            beats = group.create_task(self._presence.run()) if self._presence else None
            await stop.wait()
            tasks[0].cancel()
            listener.close()
            await self._drain()
            tasks[1].cancel()
            await self.store.stop()
            if beats:
                beats.cancel()
        _log.info("server stopped")

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        most = self.connections + self.connections // _CROWD + 1
        while True:
            while len(self._tasks) >= most:
                await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
            try:
                sock, _ = await loop.sock_accept(listener)
            except OSError as e:
                _log.error("cannot accept connections: %s", e)
                await asyncio.sleep(0.1)
                continue
            task = loop.create_task(self._serve(sock))
            task.add_done_callback(self._gone)

    async def _serve(self, sock: socket.socket) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        reader, writer = await asyncio.open_connection(sock=sock, limit=512 << 10)
        connection = Connection(self, reader, writer)
        task = asyncio.current_task()
        assert task
        self._tasks[task] = connection
        self._count()
        if self._ends:
            connection.drain(*self._ends)
        await connection.serve()

    def _gone(self, task: asyncio.Task[None]) -> None:
        self._tasks.pop(task, None)
        self._count()
        if not task.cancelled() and (e := task.exception()):
            _log.error("connection failed", exc_info=e)

    @property
    def open(self) -> int:
        """How many connections are open."""
        return len(self._tasks)

    def _count(self) -> None:
        if self._presence:
            self._presence.set(len(self._tasks))

    def _flush(self) -> None:
        for relay in self.touched:
            relay.flush()
        self.touched.clear()

    async def _ping(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(_PING_LOOK)
            now = loop.time()
            for connection in self._tasks.values():
                if connection.relay:
                    connection.relay.ping(now)

    async def _drain(self) -> None:
        o, now = self._options, asyncio.get_running_loop().time()
        self._ends = now + o.drain, now + o.bare_drain
        _log.info("server drains connections=%d", len(self._tasks))
        for connection in self._tasks.values():
            connection.drain(*self._ends)
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=max(o.drain, o.bare_drain) + _STOP_GRACE)
            for task in late:
                task.cancel()

    def print(self, peer: str, payload: bytes) -> None:
        """Print a payload as the original demo server does, if asked to."""
        if self._options.print:
            sys.stdout.write(f"DATA - {peer} - {shown(payload)}\n")
            sys.stdout.flush()


def shown(payload: bytes) -> str:
    """Return a payload as one printable line."""
    text = payload.decode(errors="backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
