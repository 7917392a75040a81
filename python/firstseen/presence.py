"""Beats: how many connections this server has, posted where readers of any implementation look.

internal/presence says how readers judge them.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
from typing import Any, Final

from redis.asyncio import Redis
from redis.exceptions import RedisError

INDEX: Final = "{firstseen}:presence"
_DEBOUNCE: Final = 0.2  # seconds
_DEAD_BEATS: Final = 3

_log: Final = logging.getLogger("firstseen.presence")


def dial(url: str) -> Redis:
    """Return a client of redis:// or rediss://; it connects when first used."""
    client: Redis = Redis.from_url(url, decode_responses=True, socket_timeout=2, socket_connect_timeout=2)
    return client


class Publisher:
    """Posts one server's beats: every beat, and soon after a change."""

    def __init__(self, redis: Redis, server: str, address: str, beat: float) -> None:
        self._redis, self._server, self._address, self._beat = redis, server, address, beat
        self._boot = secrets.token_hex(13)
        self._seq = self._count = 0
        self._failing = False
        self._changed = asyncio.Event()

    def set(self, count: int) -> None:
        """Tell the number of open connections. Never blocks and never fails: the beat follows by itself."""
        if count != self._count:
            self._count = count
            self._changed.set()

    async def run(self) -> None:
        """Post until cancelled, and then a farewell."""
        try:
            while True:
                posted = await self._post(self._beat / 2)
                await asyncio.sleep(_DEBOUNCE)
                try:
                    async with asyncio.timeout((self._beat if posted else self._beat / 5) - _DEBOUNCE):
                        await self._changed.wait()
                except TimeoutError:
                    pass
                self._changed.clear()
        finally:
            await self._post(min(1, self._beat / 2), left=True)
            await self._redis.aclose()

    async def _post(self, within: float, *, left: bool = False) -> bool:
        self._seq += 1
        beat: dict[str, Any] = {
            "server": self._server, "boot": self._boot, "seq": self._seq, "count": 0 if left else self._count,
            "address": self._address,
        }  # fmt: skip
        if left:
            beat["left"] = True
        try:
            async with asyncio.timeout(within), self._redis.pipeline(transaction=True) as pipe:
                pipe.set(f"{INDEX}:{self._server}", json.dumps(beat), px=int(_DEAD_BEATS * self._beat * 1000))
                pipe.srem(INDEX, self._server) if left else pipe.sadd(INDEX, self._server)
                await pipe.execute()
        except (RedisError, OSError, TimeoutError) as e:
            if not self._failing:
                _log.warning("beats do not arrive, readers will say unknown: %s", e)
            self._failing = True
            return False
        if self._failing:
            _log.info("beats arrive again")
        self._failing = False
        return True
