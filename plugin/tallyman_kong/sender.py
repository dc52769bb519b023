"""The sender's process: a delivery for each sink that the spool or the supervisor names.

It sends from the spool alone, and takes nothing from Kong.
"""

import asyncio
import fcntl
import json
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from tallyman_kong.delivery import Client, Delivery, SpoolAccess
from tallyman_kong.http_sink import HttpClient
from tallyman_kong.kafka_sink import KafkaClient
from tallyman_kong.logs import configure
from tallyman_kong.settings import Settings
from tallyman_kong.sink import HttpSink, Sink, from_message, restored
from tallyman_kong.spool import Spool
from tallyman_kong.spool_file import open_lock

log = logging.getLogger("tallyman_kong.sender")

LOCK_SECONDS = 0.2


def run(settings: Settings) -> None:
    configure(settings.log_level, "sender")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the supervisor too
    asyncio.run(_run(settings))


def make_client(sink: Sink) -> Client:
    return HttpClient(sink) if isinstance(sink, HttpSink) else KafkaClient(sink)


class Sender:
    """The deliveries, one per sink; they begin when it is `alone`."""

    def __init__(self, spool: SpoolAccess, heartbeat_seconds: float = 0.0) -> None:
        self.alone = asyncio.Event()
        self._spool = spool
        self._heartbeat_seconds = heartbeat_seconds
        self._deliveries: dict[str, tuple[Delivery, asyncio.Task[None]]] = {}

    def use(self, sink: Sink) -> None:
        """Deliver to the sink, or go on delivering with these settings."""
        if sink.name in self._deliveries:
            self._deliveries[sink.name][0].use(sink)
            return
        delivery = Delivery(self._spool, sink, make_client, self._heartbeat_seconds)
        self._deliveries[sink.name] = (delivery, asyncio.create_task(self._run(delivery)))
        log.info("sending to %s %s", sink.kind, sink.address)

    async def _run(self, delivery: Delivery) -> None:
        await self.alone.wait()
        await delivery.run()

    def begin_with(self, stored: Mapping[str, str], settings: Settings) -> None:
        """Deliver to the sinks that events were spooled for; what Kong has sent goes before that."""
        sinks = restored(stored, api_token=settings.api_token, sasl_password=settings.sasl_password)
        for name, sink in sinks.items():
            if name in self._deliveries:
                continue
            if sink is not None:
                self.use(sink)
            else:
                log.warning(
                    "what is spooled for sink %s waits for its secret, which Kong sends with the "
                    "next call; TALLYMAN_KONG_API_TOKEN or _SASL_PASSWORD gives it to a sink that "
                    "is the only one of its kind",
                    name,
                )

    def check(self) -> None:
        """Raise what has ended a delivery, if anything did: the supervisor starts us again."""
        for _, task in self._deliveries.values():
            if task.done():
                task.result()

    async def drain(self, within_seconds: float) -> None:
        """Send what is spooled, as far as the time allows; what is not acknowledged stays."""
        tasks = [task for _, task in self._deliveries.values()]
        for delivery, _ in self._deliveries.values():
            delivery.stop()
        if not tasks:
            return
        timeout = within_seconds if self.alone.is_set() else 0
        _, pending = await asyncio.wait(tasks, timeout=timeout)
        for task in pending:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _run(settings: Settings) -> None:
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    spool = SpoolAccess(Spool(settings.spool))
    sender = Sender(spool, settings.heartbeat_seconds)
    told = asyncio.create_task(_follow_supervisor(sender, stopping))
    async with _alone(settings.spool, stopping) as alone:
        if alone:
            sender.begin_with(await spool.do(Spool.sinks), settings)
            sender.alone.set()
        while not stopping.is_set():
            sender.check()
            with suppress(TimeoutError):
                await asyncio.wait_for(stopping.wait(), 1.0)
        await sender.drain(settings.drain_seconds)
    told.cancel()
    spool.close()
    log.info("stopped")


async def _follow_supervisor(sender: Sender, stopping: asyncio.Event) -> None:
    """Take sinks, secrets included, from stdin; its end means that the supervisor is gone."""
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        sender.use(from_message(json.loads(line)))
    stopping.set()


@asynccontextmanager
async def _alone(spool: Path, stopping: asyncio.Event) -> AsyncIterator[bool]:
    """Wait for another sender of this spool, as in a rolling restart, to end: one sends at a time.

    False where it was told to stop before that.
    """
    spool.parent.mkdir(parents=True, exist_ok=True)
    descriptor = open_lock(spool, ".sender")
    try:
        alone = False
        while not alone and not stopping.is_set():
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                alone = True
            except BlockingIOError:
                with suppress(TimeoutError):
                    await asyncio.wait_for(stopping.wait(), LOCK_SECONDS)
        yield alone
    finally:
        os.close(descriptor)
