"""Accepts events into a chDB directory until it is killed, and prints what it has acknowledged."""

import asyncio
import itertools
import json
import sys
from datetime import UTC, datetime

from tallyman.domain.event import parse_event
from tallyman.store.clickhouse import ClickHouse
from tallyman.store.events import EventStore, Received


def batch(number: int, size: int) -> list[Received]:
    """Half of the events have no time of their own."""
    at = datetime.now(UTC)
    events = []
    for one in range(size):
        body = {"id": f"{number}-{one}", "source": "s", "type": "t", "subject": "acme"}
        if one % 2:
            body["time"] = "2026-11-21T09:24:33Z"
        events.append(Received("default", parse_event(json.dumps(body).encode()), at))
    return events


async def accept_for_ever(directory: str, size: int, *, alone: bool) -> None:
    """Each line printed is the number of a batch that was accepted."""
    store = EventStore(ClickHouse.embedded(directory), alone=alone)
    await store.migrate()
    for number in itertools.count():
        await store.accept(batch(number, size))
        print(number, flush=True)  # noqa: T201 – the acknowledgement


if __name__ == "__main__":
    asyncio.run(accept_for_ever(sys.argv[1], int(sys.argv[2]), alone=sys.argv[3] == "alone"))
