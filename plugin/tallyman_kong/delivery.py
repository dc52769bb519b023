"""Delivers one sink's spooled events: in order, until each is acknowledged or set aside.

It does not know HTTP or Kafka: a client sends a batch and says how it went.
"""

import asyncio
import json
import logging
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from typing import Protocol, TypeVar

import tenacity

from tallyman_kong import heartbeat
from tallyman_kong.durable_step import durable
from tallyman_kong.logs import EACH
from tallyman_kong.metrics import SEND_ERRORS
from tallyman_kong.sink import Sink
from tallyman_kong.spool import Spool, Spooled

log = logging.getLogger("tallyman_kong.sender")

BATCH_EVENTS = 500
BATCH_GROWTH = 10  # events, per batch that is taken, after one that was too large
BATCH_BYTES = 1_000_000
POLL_SECONDS = 0.2
FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 60.0
LONGEST_REASON = 500
NOT_SPOOLED = -1  # the position of what is sent without having been in the spool
T = TypeVar("T")


class Unsent(Exception):
    """A batch, or a part of it, was not taken. `acknowledged` holds the positions that were."""

    def __init__(self, reason: str, acknowledged: Iterable[int] = ()) -> None:
        super().__init__(reason)
        self.reason = reason[:LONGEST_REASON]
        self.acknowledged = frozenset(acknowledged)


class Away(Unsent):
    """The sink cannot take it now: try again, at the earliest after `retry_after` seconds."""

    def __init__(
        self,
        kind: str,
        reason: str,
        retry_after: float | None = None,
        acknowledged: Iterable[int] = (),
    ) -> None:
        super().__init__(reason, acknowledged)
        self.kind = kind
        self.retry_after = retry_after


class Refused(Unsent):
    """The sink will never take this batch as it is; a part of it, perhaps."""


class TooLarge(Refused):
    """Refused for its size."""


class Client(Protocol):
    """Sends batches to one sink."""

    async def send(self, events: Sequence[Spooled]) -> None:
        """Return when the sink has all of them.

        Raises:
            Away: try again later.
            Refused: trying again is of no use.
        """

    async def close(self) -> None: ...


class SpoolAccess:
    """The spool from asyncio: its calls block, so they run on one thread of their own."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="spool")

    async def do(self, work: Callable[[Spool], T]) -> T:
        """Do it, again and again while the disk is full or the file is locked."""
        while True:
            try:
                loop = asyncio.get_running_loop()
                return await loop.run_in_executor(self._executor, work, self._spool)
            except (sqlite3.OperationalError, OSError) as err:
                log.error("the spool cannot be used, trying again: %s", err)
                await asyncio.sleep(1.0)

    def close(self) -> None:
        self._executor.shutdown()
        self._spool.close()


class Delivery:
    """The events of one sink, from the spool to its client."""

    def __init__(
        self,
        spool: SpoolAccess,
        sink: Sink,
        make_client: Callable[[Sink], Client],
        heartbeat_seconds: float = 0.0,
    ) -> None:
        """`heartbeat_seconds` lie between two heartbeats; 0 for none."""
        self._spool = spool
        self._sink = sink
        self._make_client = make_client
        self._client: Client | None = None
        self._client_sink: Sink | None = None
        self._stopping = False
        self._wake = asyncio.Event()
        self._largest_batch = BATCH_EVENTS
        self._took_some = False  # of the batch under way
        self._stuck: list[Spooled] = []  # of it, refused and without room to be set aside
        self._heartbeat_seconds = heartbeat_seconds
        self._heartbeat_at = time.monotonic() + heartbeat_seconds

    def use(self, sink: Sink) -> None:
        """Go on with these settings, at once: a new token may be what was missing.

        The sink's name must be the same.
        """
        if sink != self._sink:
            self._sink = sink
            self._largest_batch = BATCH_EVENTS
            self._wake.set()

    def stop(self) -> None:
        """Send what is spooled, then end; end at the first failure."""
        self._stopping = True
        self._wake.set()

    async def run(self) -> None:
        try:
            while True:
                limit = self._largest_batch
                batch = await self._spool.do(
                    lambda spool, limit=limit: spool.read(  # type: ignore[misc]
                        self._sink.name, limit, BATCH_BYTES
                    )
                )
                if self._heartbeat_seconds and time.monotonic() >= self._heartbeat_at:
                    await self._say_how_far()
                if batch:
                    self._took_some = False
                    await self._deliver(batch)
                    if self._stuck:
                        await self._settle()
                elif self._stopping:
                    return
                else:
                    await self._pause(POLL_SECONDS)
        except Away:
            return  # stopping, and the sink did not answer: the spool keeps the rest
        finally:
            if self._client is not None:
                await self._client.close()

    async def _say_how_far(self) -> None:
        """Send a heartbeat, once: the next one says the same better."""
        self._heartbeat_at = time.monotonic() + self._heartbeat_seconds
        states = await self._spool.do(lambda spool: spool.states())
        now = datetime.now(UTC)
        beats = [Spooled(NOT_SPOOLED, heartbeat.event_of(state, now)) for state in states]
        try:
            if beats:
                await (await self._current_client()).send(beats)
        except Refused as err:
            log.error(
                "the %s sink refuses heartbeats, so what is lost of this node is not seen: %s",
                self._sink.kind,
                err.reason,
            )
        except Unsent as err:
            log.info("the %s sink did not take a heartbeat: %s", self._sink.kind, err.reason)

    async def _deliver(self, batch: list[Spooled]) -> None:
        """See each event of the batch acknowledged or set aside.

        A refused batch is halved until the events that the sink does not take are found.
        """
        try:
            await self._send_until_answered(batch)
            self._largest_batch = min(self._largest_batch + BATCH_GROWTH, BATCH_EVENTS)
        except Refused as err:
            if len(batch) == 1:
                await self._set_aside(batch[0], err.reason)
                return
            if isinstance(err, TooLarge):
                self._largest_batch = len(batch) // 2
            middle = (len(batch) + 1) // 2
            for half in (batch[:middle], batch[middle:]):
                if half:
                    await self._deliver(half)

    async def _send_until_answered(self, batch: list[Spooled]) -> None:
        async for attempt in tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception_type(Away),
            wait=_pause_after,
            stop=lambda _: self._stopping,
            sleep=self._pause,
            reraise=True,
        ):
            with attempt:
                await self._send(batch)

    @durable("sender.send")
    async def _send(self, batch: list[Spooled]) -> None:
        """Try once. What was acknowledged leaves the spool, and the batch."""
        kind = self._sink.kind
        try:
            client = await self._current_client()
            await client.send(batch)
        except Unsent as err:
            await self._acknowledge(err.acknowledged, kind)
            batch[:] = [event for event in batch if event.position not in err.acknowledged]
            if isinstance(err, Away):
                log.warning("the %s sink does not take events: %s", kind, err.reason)
                counts = Counter({SEND_ERRORS.of(kind=err.kind): 1})
                await self._spool.do(lambda spool: spool.count(counts))
            raise
        await self._acknowledge([event.position for event in batch], kind)

    async def _acknowledge(self, positions: Collection[int], kind: str) -> None:
        self._took_some = self._took_some or bool(positions)
        await self._spool.do(lambda spool: spool.acknowledge(positions, kind))

    async def _set_aside(self, event: Spooled, reason: str) -> None:
        if self._stuck or not await self._spool.do(
            lambda spool: spool.set_aside(event.position, reason)
        ):
            self._stuck.append(event)
        else:
            log.error("event %s is refused by its sink, and set aside", event_id(event), extra=EACH)

    async def _settle(self) -> None:
        """Give up what is refused and finds no room, or wait where the sink takes nothing at all.

        A sink that takes nothing of a batch is wrong itself, and no event is given up for it. Each
        is tried again after another was taken, since the sink may have been mended just then.
        """
        stuck, self._stuck = self._stuck, []
        if self._took_some:
            for event in stuck:
                try:
                    await self._send_until_answered([event])
                except Refused:
                    await self._give_up(event)
            return
        log.error("too many events are set aside, and the %s sink refuses all", self._sink.kind)
        if self._stopping:
            raise Away("set_aside_full", "the sink refuses all")
        self._largest_batch = BATCH_EVENTS
        await self._pause(LONGEST_PAUSE_SECONDS)

    async def _give_up(self, event: Spooled) -> None:
        await self._spool.do(lambda spool: spool.give_up(event.position))
        log.error(
            "event %s is refused by its sink, and given up, since too many are set aside: "
            "it is not counted; replay Kong's log when the cause is gone",
            event_id(event),
            extra=EACH,
        )

    async def _current_client(self) -> Client:
        if self._client is None or self._client_sink != self._sink:
            if self._client is not None:
                await self._client.close()
            self._client_sink = self._sink
            self._client = self._make_client(self._sink)
        return self._client

    async def _pause(self, seconds: float) -> None:
        """Wait, unless told to stop or to use other settings."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._wake.wait(), seconds)
        if not self._stopping:
            self._wake.clear()


def event_id(event: Spooled) -> str:
    return str(json.loads(event.body).get("id"))


_full_jitter = tenacity.wait_random_exponential(
    multiplier=FIRST_PAUSE_SECONDS, max=LONGEST_PAUSE_SECONDS
)


def _pause_after(state: tenacity.RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome is not None else None
    if isinstance(error, Away) and error.retry_after is not None:
        return error.retry_after
    return _full_jitter(state)
