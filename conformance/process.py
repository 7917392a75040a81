"""The programs under test, each in a folder of its own."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import socket
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from conformance.peer import PATIENCE, Miss, want


def free_port() -> int:
    """Return a port of the loopback interface that nobody listens on."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port: int = s.getsockname()[1]
        return port


def eventually(condition: Callable[[], bool], otherwise: str, within: float = PATIENCE) -> None:
    """Miss unless the condition comes true in time."""
    deadline = time.monotonic() + within
    while not condition():
        want(time.monotonic() < deadline, otherwise)
        time.sleep(0.02)


class Program:
    """A process that is started from a command line and is gone when the check is over."""

    def __init__(self, command: str, folder: Path, places: Mapping[str, object], stdin: bytes | None = None) -> None:
        self.log = folder / f"log-{time.monotonic_ns()}"
        arguments = [word.format(**places) for word in shlex.split(command)]
        source: int | None = subprocess.DEVNULL
        if stdin is not None:
            path = folder / "stdin"
            path.write_bytes(stdin)
            source = os.open(path, os.O_RDONLY)
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(  # noqa: S603 - the command is the user's own
                arguments, stdin=source, stdout=log, stderr=log, start_new_session=True
            )
        if stdin is not None and source is not None:
            os.close(source)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to it and all that it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def ended(self) -> bool:
        """Tell whether it has ended."""
        return self.process.poll() is not None

    def wait(self, within: float = PATIENCE) -> int:
        """Return the exit code."""
        try:
            return self.process.wait(within)
        except subprocess.TimeoutExpired:
            raise Miss(f"still runs after {within:.0f} s") from None

    def kill(self) -> None:
        """End it outright."""
        self.signal(signal.SIGKILL)
        self.process.wait()

    def said(self) -> str:
        """Return the last of what it printed."""
        return self.log.read_text(errors="replace")[-2000:]


class Server:
    """A server under test: its process if the runner starts it, its address, its database if it may be looked at."""

    def __init__(self, folder: Path, command: str, beside: str) -> None:
        self._folder, self._command, self._beside = folder, command, beside
        self.port = free_port()
        self.database = folder / "store.db"
        self._programs: list[Program] = []
        self.start()

    def start(self) -> None:
        """Start it on the same address and database as before, and wait until it accepts connections."""
        places = {"address": f"127.0.0.1:{self.port}", "database": self.database, "inner": free_port()}
        self._programs = [Program(self._command, self._folder, places)]

        def accepts() -> bool:
            if self.main.ended():
                raise Miss(f"the server did not start: {self.main.said()}")
            with contextlib.suppress(OSError), self.connect():
                return True
            return False

        eventually(accepts, "the server did not start in time", 60)
        if self._beside:
            self._programs.append(Program(self._beside, self._folder, places))

    @property
    def main(self) -> Program:
        """The server's own process."""
        return self._programs[0]

    def connect(self) -> socket.socket:
        """Return a new connection."""
        sock = socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock

    def stop(self) -> None:
        """Tell it to end."""
        self.main.process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it outright, and what stands beside it."""
        for program in self._programs:
            program.kill()

    @contextlib.contextmanager
    def sql(self) -> Iterator[sqlite3.Connection]:
        """Open the database beside the server."""
        connection = sqlite3.connect(self.database, timeout=PATIENCE, isolation_level=None)
        try:
            yield connection
        finally:
            connection.close()

    def keys(self) -> list[str]:
        """Return the keys of all records, in the order of their arrival."""
        with self.sql() as db:
            return [row[0] for row in db.execute("SELECT key FROM records ORDER BY id")]


@contextlib.contextmanager
def server(command: str, beside: str) -> Iterator[Server]:
    """Run a server with an empty store."""
    with tempfile.TemporaryDirectory(prefix="conformance-") as folder:
        s: Server | None = None
        try:
            s = Server(Path(folder), command, beside)
            yield s
        finally:
            if s is not None:
                s.kill()
