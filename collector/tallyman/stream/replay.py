"""Owns where replayed events go: to the server that runs, to the store itself, or to Kafka.

It does not read log files: see `kong_log_file.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol
from urllib.parse import quote

import aiohttp
import msgspec
from tallyman_kong.durable_step import durable

from tallyman.domain.event import CloudEvent
from tallyman.errors import TallymanError, Unavailable
from tallyman.store.events import Accepted, EventStore, Received
from tallyman.stream.intake import Intake
from tallyman.stream.message import encode_event

LOCAL_NAMESPACE_HEADER = "Tallyman-Namespace"


@dataclass(frozen=True)
class Counts:
    """What became of some events."""

    new: int
    known: int
    conflicts: int = 0


class Destination(Protocol):
    """Takes replayed events."""

    async def take(self, events: Sequence[CloudEvent]) -> Counts:
        """Make them durable, and say how many were there before.

        Raises:
            Unavailable: to be tried again later; nothing is lost or doubled by that.
        """
        ...


@dataclass(frozen=True)
class Server:
    """The server that runs on the data directory, asked over its socket."""

    session: aiohttp.ClientSession
    namespace: str

    @durable("replay.post")
    async def take(self, events: Sequence[CloudEvent]) -> Counts:
        """Post a batch."""
        body = b",".join(encode_event(event) for event in events)
        headers = {
            "Content-Type": "application/cloudevents-batch+json",
            LOCAL_NAMESPACE_HEADER: quote(self.namespace),
        }
        try:
            async with self.session.post(
                "http://tallyman/api/v3/openmeter/events", data=b"[" + body + b"]", headers=headers
            ) as answer:
                if answer.status >= 500:
                    raise Unavailable(f"the server answered {answer.status}")
                if answer.status != 202:
                    problem = msgspec.json.decode(await answer.read())
                    raise TallymanError(f"the server refused a batch: {problem['detail']}")
                new, known, conflicts = (
                    int(answer.headers[f"Tallyman-{name}"])
                    for name in ("New", "Known", "Conflicts")
                )
        except (aiohttp.ClientError, TimeoutError, OSError) as err:
            raise Unavailable(f"the server did not answer: {err}") from err
        return Counts(new, known, conflicts)


def connect(socket_path: Path) -> aiohttp.ClientSession:
    """A session with the server behind a socket."""
    return aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(socket_path)))


@dataclass(frozen=True)
class Direct:
    """The store itself, where no server writes to it."""

    store: Intake
    namespace: str

    @durable("replay.store")
    async def take(self, events: Sequence[CloudEvent]) -> Counts:
        """Store a batch."""
        accepted: Accepted = await self.store.accept(_received(events, self.namespace))
        return Counts(accepted.new, accepted.known, len(accepted.conflicts))


@dataclass(frozen=True)
class Produced:
    """Kafka, for what ClickHouse does not know; what is still on its way there goes twice."""

    store: EventStore
    intake: Intake
    namespace: str

    @durable("replay.produce")
    async def take(self, events: Sequence[CloudEvent]) -> Counts:
        """Produce the unknown part of a batch."""
        received = _received(events, self.namespace)
        known = await self.store.known(
            self.namespace, [(each.event.source, each.event.id, each.time) for each in received]
        )
        fresh = [each for each, is_known in zip(received, known, strict=True) if not is_known]
        if fresh:
            await self.intake.accept(fresh)
        return Counts(len(fresh), len(received) - len(fresh))


def _received(events: Sequence[CloudEvent], namespace: str) -> list[Received]:
    now = datetime.now(UTC)
    return [Received(namespace, event, now) for event in events]
