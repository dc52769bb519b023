"""Owns the embedded way in: what many requests bring at the same time is stored in one go.

It does not store: the event store does, one group after the other, so that each id has one writer.
"""

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from tallyman.errors import InvalidInput, Unavailable
from tallyman.store.events import Accepted, Received
from tallyman.stream.intake import Intake

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class GroupLimits:
    """How large a group gets, and how long it waits for that.

    small_events         a group costs as much however few they are, so fewer wait for company
    quiet_seconds        how long after the last one that came
    gather_seconds       and how long at most; where that is less than a slow machine takes to answer a
                         group and read it anew, the group falls in two, and both cost what it did
    waiting_events       back-pressure
    """

    quiet_seconds: float = 0.02
    gather_seconds: float = 0.1
    small_events: int = 500
    events: int = 10_000
    waiting_events: int = 100_000
    patience_seconds: float = 10.0


@dataclass
class _Request:
    batch: Sequence[Received]
    accepted: asyncio.Future[Accepted] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


class GroupCommit:
    """Gathers batches and hands them to the store; use it as an async context manager."""

    def __init__(self, store: Intake, limits: GroupLimits = GroupLimits()) -> None:
        self._store = store
        self._limits = limits
        self._waiting: deque[_Request] = deque()
        self._waiting_events = 0
        self._expected = 0  # requests of the next group
        self._change = asyncio.Condition()
        self._closing = False
        self._worker: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "GroupCommit":
        self._worker = asyncio.create_task(self._work())
        return self

    async def __aexit__(self, *exception: object) -> None:
        """Store what has been handed in, then end."""
        async with self._change:
            self._closing = True
            self._change.notify_all()
        if self._worker is not None:
            await self._worker

    async def accept(self, batch: Sequence[Received]) -> Accepted:
        """Store a batch together with what others bring; on return it survives kill -9.

        Waits for room when more comes in than is stored. A caller that goes away loses nothing for
        the others, and its batch may be stored all the same.

        Raises:
            Unavailable: no room within the patience, or the store did not answer.
            InvalidInput: the store refuses this batch, whatever became of the others.
        """
        if not batch:
            return Accepted(0, 0)
        request = _Request(batch)
        try:
            async with asyncio.timeout(self._limits.patience_seconds), self._change:
                await self._change.wait_for(lambda: self._closing or self._has_room(len(batch)))
                if self._closing:
                    raise Unavailable("the server is stopping")
                self._waiting.append(request)
                self._waiting_events += len(batch)
                self._change.notify_all()
        except TimeoutError as err:
            raise Unavailable("more events come in than can be stored; send them later") from err
        return await request.accepted

    def _has_room(self, events: int) -> bool:
        return not self._waiting or self._waiting_events + events <= self._limits.waiting_events

    async def _work(self) -> None:
        while True:
            async with self._change:
                await self._change.wait_for(lambda: self._closing or self._waiting)
            if not self._waiting:
                return
            await self._gather()
            group = await self._take()
            if group:
                await self._store_group(group)
                self._expected = len(group) + len(self._waiting)

    async def _gather(self) -> None:
        """Wait for those who were just answered, as they may have more; who is alone does not wait."""
        until, came = time.monotonic() + self._limits.gather_seconds, -1
        async with self._change:
            while not self._is_enough() and came < len(self._waiting):
                came = len(self._waiting)
                left = min(self._limits.quiet_seconds, until - time.monotonic())
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(left):
                        await self._change.wait_for(self._is_enough)

    def _is_enough(self) -> bool:
        return (
            self._closing
            or len(self._waiting) >= self._expected
            or self._waiting_events >= self._limits.small_events
        )

    async def _take(self) -> list[_Request]:
        """The oldest requests, at least one, up to the bound."""
        group: list[_Request] = []
        events = 0
        async with self._change:
            while self._waiting and (
                not group or events + len(self._waiting[0].batch) <= self._limits.events
            ):
                request = self._waiting.popleft()
                self._waiting_events -= len(request.batch)
                if not request.accepted.cancelled():
                    group.append(request)
                    events += len(request.batch)
            self._change.notify_all()
        return group

    async def _store_group(self, group: list[_Request]) -> None:
        try:
            accepted = await self._store.accept([event for each in group for event in each.batch])
        except InvalidInput as err:
            if len(group) == 1:
                _fail(group, err)
                return
            for request in group:  # one of them is bad: the others must not pay for it
                await self._store_group([request])
        except Exception as err:
            if not isinstance(err, Unavailable):
                log.exception("a group of %d batches was not stored", len(group))
            _fail(group, err)
        else:
            begin = 0
            for request in group:
                end = begin + len(request.batch)
                if not request.accepted.done():
                    request.accepted.set_result(_share(accepted, begin, end))
                begin = end


def _share(accepted: Accepted, begin: int, end: int) -> Accepted:
    """What became of the events at [begin, end) of a group."""
    conflicts = tuple(
        replace(conflict, position=conflict.position - begin)
        for conflict in accepted.conflicts
        if begin <= conflict.position < end
    )
    known_at = tuple(at - begin for at in accepted.known_at if begin <= at < end)
    new = end - begin - len(known_at) - len(conflicts)
    return Accepted(new, len(known_at), conflicts, known_at)


def _fail(group: list[_Request], err: Exception) -> None:
    for request in group:
        if not request.accepted.done():
            request.accepted.set_exception(err)
