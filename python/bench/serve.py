"""The Python server as a contender of ./bench: prints its address, and what it has used for each line that it reads."""

import asyncio
import json
import resource
import sys
from pathlib import Path

from firstseen.database import Database
from firstseen.server import Options, Server
from firstseen.store import Store


def status(name: str) -> int:
    """Return a size from the process's own status, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) << 10
    return 0


def used(server: Server) -> bytes:
    """Return what the process has used so far, as ./bench reads it: times in nanoseconds, sizes in bytes."""
    u = resource.getrusage(resource.RUSAGE_SELF)
    cpu = int(1e9 * (u.ru_utime + u.ru_stime))
    rss = status("VmRSS:")
    usage = {"cpu": cpu, "peak": status("VmHWM:"), "rss": rss, "live": rss, "conns": server.open}
    return json.dumps(usage).encode() + b"\n"


async def serve(dsn: str) -> None:
    """Run until the input ends."""
    database = Database(dsn)
    server = Server(Options("127.0.0.1", 0, "server-1", drain=1, bare_drain=1), Store(database))
    stop = asyncio.Event()
    running = asyncio.create_task(server.run(stop))
    address = await server.address
    sys.stdout.write(address + "\n")
    sys.stdout.flush()
    while await asyncio.to_thread(sys.stdin.readline):
        sys.stdout.buffer.write(used(server))
        sys.stdout.buffer.flush()
    stop.set()
    await running
    database.close()


asyncio.run(serve(sys.argv[1]))
