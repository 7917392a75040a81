"""One connection of a server, in whichever mode its first frame chooses: docs/WIRE.md."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import secrets
import time
from collections import deque
from typing import TYPE_CHECKING, Final, Literal

from sqlalchemy.exc import SQLAlchemyError

from firstseen import header, raw, wire
from firstseen.ledger import Ledger
from firstseen.netstring import Decoder, NetstringError, encode
from firstseen.store import Offer, Settlement

if TYPE_CHECKING:
    from firstseen.server import Server

_READ: Final = 256 << 10
_LINGER: Final = 2.0  # seconds of reading on behind a half-close, relay mode
_BARE_LINGER: Final = 10.0
_LINGER_BYTES: Final = 64 << 20
_SETTLE_WAIT: Final = 10.0
_REPORT_TIMEOUT: Final = 5.0
_WRITE_TIMEOUT: Final = 10.0
_HIGH_WATER: Final = 64 << 10
_BARE_TYPE: Final = "application/octet-stream"

Why = Literal["eof", "stopped", "silence", "timeout", "broken", "bye"]

_log: Final = logging.getLogger("firstseen.server")


class EndedError(Exception):
    """No more frames come."""

    def __init__(self, why: Why) -> None:
        super().__init__(why)
        self.why = why


class FatalError(Exception):
    """The link ends with this frame."""

    def __init__(self, code: str, text: str, *, retry: bool = False) -> None:
        super().__init__(f"{code}: {text}")
        self.frame = wire.Fatal(retry, code, text)


class Connection:
    """Served by one task until its end."""

    def __init__(self, server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._server, self._reader, self._writer = server, reader, writer
        peer = writer.get_extra_info("peername") or ("", 0)
        self.remote: str = peer[0].removeprefix("::ffff:").partition("%")[0]
        self.peer = f"[{self.remote}]:{peer[1]}" if ":" in self.remote else f"{self.remote}:{peer[1]}"
        self._decoder = Decoder(wire.MAX_FRAME)
        self._frames: deque[bytes] = deque()
        self._broken: NetstringError | None = None
        self._begun = 0.0  # when the frame that has begun did
        self._idle: float | None = server.first_frame  # seconds to wait for a frame's first byte; None: for ever
        self._end: float | None = None  # after this nothing is read
        self._timer: asyncio.Timeout | None = None
        self._relay: Relay | None = None
        self._draining = False

    async def serve(self) -> None:
        """Read the connection to its end and close it."""
        try:
            first = await self.next()
        except (EndedError, NetstringError) as e:
            if isinstance(e, NetstringError):
                await self.linger(_BARE_LINGER)
        else:
            if wire.is_hello(first):
                await Relay(self).serve(first)
            else:
                await self._serve_bare(first)
        finally:
            self._writer.close()

    async def next(self) -> bytes:
        """Return the next frame's content; raise EndedError, or NetstringError at a wrong byte."""
        while not self._frames:
            if self._broken:
                raise self._broken
            data = await self._receive()
            if not data:
                self._decoder.end()
                raise EndedError("eof")
            try:
                self._frames.extend(self._decoder.feed(data))
            except NetstringError as e:
                self._broken = e
            if self._decoder.begun and (self._frames or not self._begun):
                self._begun = asyncio.get_running_loop().time()
            elif not self._decoder.begun:
                self._begun = 0.0
        return self._frames.popleft()

    async def _receive(self) -> bytes:
        now = asyncio.get_running_loop().time()
        due = None if self._idle is None else now + self._idle
        if self._begun:
            due = self._begun + wire.FRAME_TIMEOUT
        try:
            async with asyncio.timeout_at(_earlier(due, self._end)) as self._timer:
                return await self._reader.read(_READ)
        except TimeoutError:
            if self._end is not None and asyncio.get_running_loop().time() >= self._end:
                raise EndedError("stopped") from None
            raise EndedError("timeout" if self._begun else "silence") from None
        except OSError:
            raise EndedError("broken") from None
        finally:
            self._timer = None

    def patience(self, seconds: float | None) -> None:
        """Set how long to wait for a frame's first byte."""
        self._idle = seconds

    def stop_reading(self, at: float) -> None:
        """End all reading at a time of the loop's clock, a read that waits now included."""
        if self._end is None or at < self._end:
            self._end = at
            if self._timer and not self._timer.expired():
                self._timer.reschedule(_earlier(self._timer.when(), at))

    def drain(self, relay_end: float, bare_end: float) -> None:
        """Ask the connection to end: relay clients are told to leave in time, everybody else is read on for a while."""
        self._draining = True
        self.stop_reading(relay_end if self._relay else bare_end)
        if self._relay:
            self._relay.drain(relay_end)

    def become(self, relay: Relay) -> bool:
        """Make relay known to drain; false if the server is draining already."""
        if self._draining:
            return False
        self._relay = relay
        return True

    @property
    def relay(self) -> Relay | None:
        """What speaks for it once it is in relay mode."""
        return self._relay

    @property
    def server(self) -> Server:
        """The server that it belongs to."""
        return self._server

    def write(self, data: bytes) -> None:
        """Write, without waiting."""
        self._writer.write(data)

    async def unblock(self) -> None:
        """Wait while the client does not read what was written; one that never does is cut off."""
        if self._writer.transport.get_write_buffer_size() <= _HIGH_WATER:
            return
        try:
            async with asyncio.timeout(_WRITE_TIMEOUT):
                await self._writer.drain()
        except (TimeoutError, OSError):
            self._writer.transport.abort()
            raise EndedError("broken") from None

    async def linger(self, seconds: float) -> None:
        """Half-close and read on, so that the close finds no unread input and destroys nothing that was written."""
        try:
            async with asyncio.timeout(seconds):
                await self._writer.drain()
                self._writer.write_eof()
                left = _LINGER_BYTES
                while left > 0 and (chunk := await self._reader.read(_READ)):
                    left -= len(chunk)
        except (TimeoutError, OSError):
            pass

    async def _serve_bare(self, content: bytes) -> None:
        """Store every frame as a payload. Not a byte is written: not an ack, not an error."""
        self.patience(None)  # a client may send one payload an hour
        try:
            while content:
                await self._offer_bare(content)
                content = await self.next()
            _log.info("bare frame refused: frame is empty remote=%s", self.peer)
        except EndedError:
            return
        except NetstringError as e:
            _log.info("bare frame refused: %s remote=%s", e, self.peer)
        await self.linger(_BARE_LINGER)

    async def _offer_bare(self, payload: bytes) -> None:
        def done(s: Settlement) -> None:
            if not s.flag:
                _log.warning("bare payload not stored: %s remote=%s", s.reason, self.peer)

        self._server.print(self.peer, payload)
        key = hashlib.sha256(payload).hexdigest()
        offer = Offer(0, key, payload, _BARE_TYPE, self._server.name, self.remote, _micros(), done)
        await self._server.store.offer(offer)


class Relay:
    """A connection in relay mode."""

    def __init__(self, connection: Connection) -> None:
        self._c = connection
        self._server = connection.server
        self._ledger = Ledger()
        self._observer = ""
        self._caps: list[str] = []  # what both sides speak
        self._session = secrets.token_hex(8)
        self._quiet = asyncio.Event()  # set when nothing is left to settle, or never will be
        self._lost = False  # some frame will never be settled
        self._closed = False
        self._end: float | None = None  # of draining
        self._reports_fail = False
        self.wrote = 0.0  # when something was last written

    async def serve(self, first: bytes) -> None:
        """Answer the HELLO and read to the end; close without losing what was written."""
        fatal: FatalError | None = None
        why: Why = "eof"
        self._server.relays += 1
        try:
            await self._welcome(first)
            self._c.patience(wire.DEAD_AFTER)
            while True:
                await self._frame(await self._c.next())
                await self._c.unblock()
        except FatalError as e:
            fatal = e
        except NetstringError as e:
            if e.kind != "truncated":
                fatal = FatalError("size" if e.kind == "too_large" else "protocol", str(e))
        except EndedError as e:
            why = e.why
        finally:
            self._server.relays -= 1
        if why == "silence":
            fatal = FatalError("timeout", f"no word for {wire.DEAD_AFTER:.0f}s", retry=True)
        elif why == "timeout":
            fatal = FatalError("timeout", f"frame not complete after {wire.FRAME_TIMEOUT:.0f}s", retry=True)
        elif why == "stopped" and not self._lost:
            fatal = FatalError("busy", "shutting down", retry=True)
        await self._finish(fatal, told=why != "broken")

    async def _welcome(self, first: bytes) -> None:
        try:
            hello = wire.parse_hello(first)
        except wire.WireError as e:
            raise FatalError(e.code, e.text) from None
        if hello.token:
            raise FatalError(
                "auth", "an access key must travel over TLS only: this one is no secret any more, revoke it"
            )
        if self._server.relays > self._server.connections:
            raise FatalError("busy", "too many connections", retry=True)
        self._observer = hello.observer
        try:
            async with asyncio.timeout(wire.WELCOME_TIMEOUT - 1):
                positions = await asyncio.to_thread(self._server.store.positions, hello.chains)
        except (SQLAlchemyError, TimeoutError) as e:
            _log.warning("positions unknown, observer sent away: %s", e)
            raise FatalError("store", "the store does not answer", retry=True) from None
        if not self._c.become(self):
            raise FatalError("busy", "shutting down", retry=True)
        self._caps = [wire.CAP_RAW] if wire.CAP_RAW in hello.caps else []
        self.say(wire.welcome(wire.Welcome(self._server.name, self._session, chains=positions, caps=self._caps)))
        _log.info("observer connected observer=%s session=%s remote=%s", self._observer, self._session, self._c.peer)

    def say(self, content: bytes) -> None:
        """Write one frame."""
        self._write(encode(content))

    def _write(self, data: bytes) -> None:
        if data and not self._closed:
            self.wrote = asyncio.get_running_loop().time()
            self._c.write(data)

    def ping(self, now: float) -> None:
        """Write a P if nothing else was written for so long."""
        if now - self.wrote >= wire.PING_AFTER:
            self.say(b"P")

    def drain(self, end: float) -> None:
        """Tell the client to leave."""
        self._end = end
        self.say(wire.drain(round(1000 * (end - asyncio.get_running_loop().time()))))

    async def _frame(self, content: bytes) -> None:
        match content[:1]:
            case b"D":
                await self._data(content)
            case b"S":
                await self._status(content)
            case b"O" | b"B" as kind:
                try:
                    wire.parse_alone(content, kind)
                except wire.WireError as e:
                    raise FatalError(e.code, e.text) from None
                if kind == b"B":
                    raise EndedError("bye")
            case _:
                if not wire.skippable(content):
                    raise FatalError("protocol", "frame is empty or of an unknown type")

    async def _data(self, content: bytes) -> None:
        """Take one observation: into the window, through the checks, to the store."""
        parsed: tuple[wire.Observation, bytes] | wire.WireError
        try:
            parsed = wire.parse_data(content)
        except wire.WireError as e:
            parsed = e
        else:
            if parsed[0].raw and not self._caps:
                raise FatalError("protocol", "a raw part, but the cap raw was not agreed on")
        n = self._ledger.admit(len(content))
        if n is None:
            raise FatalError("protocol", "window exceeded")
        try:
            if isinstance(parsed, wire.WireError):
                raise parsed
            offer = await self._offer(n, *parsed)
        except (wire.WireError, header.HeaderError, raw.RawError) as e:
            code = e.code if isinstance(e, wire.WireError) else "raw" if isinstance(e, raw.RawError) else "header"
            self._ledger.settle(n, wire.Refusal(n, code, wire.clean(str(e))))
            _log.warning("observation refused: %s observer=%s frame=%d", e, self._observer, n)
            self.flush()
            return
        self._server.print(self._c.peer, offer.payload)
        await self._server.store.offer(offer)

    async def _offer(self, n: int, observation: wire.Observation, payload: bytes) -> Offer:
        """Check an observation. Key, number, parent and time come from the header, which is hashed here."""
        head = header.decode(observation.header)
        if head.hash != observation.hash:
            raise header.HeaderError(f"the header hashes to {head.hash}")
        if observation.raw:
            async with self._server.verifying:
                await asyncio.to_thread(_check_raw, observation)

        def done(s: Settlement) -> None:
            self._settle(n, s)

        return Offer(
            observation.chain, head.hash[2:], payload, observation.content_type, self._server.name, self._c.remote,
            _micros(), done, head, observation, self._observer,
        )  # fmt: skip

    def _settle(self, n: int, s: Settlement) -> None:
        if s.flag:
            self._ledger.settle(n, s.flag)
        elif s.refused:
            _log.warning("observation refused by the store: %s observer=%s", s.reason, self._observer)
            self._ledger.settle(n, wire.Refusal(n, "data", s.reason))
        else:
            self._lost = True
            self._c.stop_reading(asyncio.get_running_loop().time())
        self._server.touched.add(self)
        if not self._ledger.unsettled or self._lost:
            self._quiet.set()

    def flush(self) -> None:
        """Tell what is settled."""
        self._write(self._ledger.take())

    async def _status(self, content: bytes) -> None:
        """Leave a report to the judge. That the store does not take it is no reason to end the link."""
        try:
            wire.parse_status(content)
        except wire.WireError as e:
            raise FatalError(e.code, e.text) from None
        try:
            async with asyncio.timeout(_REPORT_TIMEOUT):
                await asyncio.to_thread(self._server.store.report, self._observer, content[1:])
        except (SQLAlchemyError, TimeoutError) as e:
            if not self._reports_fail:
                _log.warning("report not stored; further failures are not logged: %s", e)
            self._reports_fail = True
        else:
            self._reports_fail = False

    async def _finish(self, fatal: FatalError | None, *, told: bool) -> None:
        """Wait for what is outstanding, write the last acks and the fatal frame, half-close and read on for a while."""
        loop = asyncio.get_running_loop()
        limit = loop.time() + _SETTLE_WAIT
        self._quiet.clear()
        if self._ledger.unsettled and not self._lost:
            try:
                async with asyncio.timeout_at(_earlier(limit, self._end)):
                    await self._quiet.wait()
            except TimeoutError:
                pass
        if fatal is None and (self._lost or self._ledger.unsettled):
            fatal = FatalError("store", "the store did not settle everything", retry=True)
        self.flush()
        if fatal:
            self.say(wire.fatal(fatal.frame))
        self._closed = True
        if told:
            await self._c.linger(_LINGER)
        _log.info("observer disconnected observer=%s session=%s %s", self._observer, self._session, fatal or "")


def _check_raw(o: wire.Observation) -> None:
    raw.verify(o.hash, *raw.unpack(o.raw))


def _earlier(a: float | None, b: float | None) -> float | None:
    if a is None or b is None:
        return b if a is None else a
    return min(a, b)


def _micros() -> int:
    return time.time_ns() // 1000
