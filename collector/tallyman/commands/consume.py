"""`tallyman consume`: from Kafka into ClickHouse, until it is told to stop."""

import asyncio
import signal
import time

import click
from aiohttp import web
from aiokafka.errors import KafkaError
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from tallyman import connections
from tallyman.commands.serve import configure_logging
from tallyman.commands.settings_option import with_settings
from tallyman.config import Settings
from tallyman.errors import ConfigurationError, Unavailable
from tallyman.garbage import collect_rarely
from tallyman.store.event_block import IS_BUILT
from tallyman.store.events import EventStore
from tallyman.stream.batch import BatchLimits
from tallyman.stream.consumer import Consumer
from tallyman.stream.dead_letters import DeadLetters
from tallyman.stream.kafka_connection import KafkaConnection
from tallyman.stream.metrics import ConsumerMetrics
from tallyman.stream.topics import partitions_of

READS_BY = (
    "by compiled code" if IS_BUILT else "by Python alone, a third as quickly (docs/operations.md)"
)


@click.command()
@with_settings
def consume(settings: Settings) -> None:
    """Store what comes through Kafka.

    Start as many as the topic has partitions, at most. Killed at any moment, the next start goes
    on, and nothing is lost or counted twice.
    """
    configure_logging(settings.log_level)
    connection = connections.kafka_connection(settings)
    if connection is None:
        raise ConfigurationError(
            "kafka_brokers is not set: without Kafka, `serve` stores by itself"
        )
    collect_rarely()
    asyncio.run(_consume(settings, connection))


async def _consume(settings: Settings, connection: KafkaConnection) -> None:
    await _require_topics(settings, connection)
    clickhouse = connections.open_clickhouse(settings)
    try:
        store = EventStore(clickhouse)
        await store.migrate()
        consumer = _consumer(settings, connection, store, ConsumerMetrics(CollectorRegistry()))
        loop = asyncio.get_running_loop()
        for name in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(name, _stop, consumer)
        await _run(settings, consumer)
    finally:
        await clickhouse.close()


def _stop(consumer: Consumer) -> None:
    click.echo("Stopping: what is under way is finished first.")
    consumer.stop()
    for name in (signal.SIGTERM, signal.SIGINT):  # a second signal ends the process at once
        asyncio.get_running_loop().remove_signal_handler(name)


async def _run(settings: Settings, consumer: Consumer) -> None:
    runner = web.AppRunner(_page(consumer), access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, settings.consume_host, settings.consume_port)
        try:
            await site.start()
        except OSError as err:
            raise ConfigurationError(
                f"cannot listen on consume_host {settings.consume_host}, "
                f"consume_port {settings.consume_port}: {err.strerror}"
            ) from err
        host, port = runner.addresses[0][:2]
        click.echo(
            f"Tallyman consumes {settings.kafka_topic} as {settings.kafka_group} "
            f"from {settings.kafka_brokers}, {READS_BY}; health and metrics at http://{host}:{port}"
        )
        try:
            await consumer.run()
        except KafkaError as err:
            raise Unavailable(f"Kafka at {settings.kafka_brokers}: {err!r}") from err
        click.echo("Stopped.")
    finally:
        await runner.cleanup()


def _consumer(
    settings: Settings, connection: KafkaConnection, store: EventStore, metrics: ConsumerMetrics
) -> Consumer:
    return Consumer(
        connection,
        settings.kafka_topic,
        settings.kafka_group,
        store,
        DeadLetters(connection, settings.kafka_dead_topic),
        metrics,
        settings.kafka_namespace,
        BatchLimits(settings.consume_batch_events, wait_seconds=settings.consume_wait_ms / 1000),
        settings.consume_batches_at_once,
    )


async def _require_topics(settings: Settings, connection: KafkaConnection) -> None:
    for topic in (settings.kafka_topic, settings.kafka_dead_topic):
        try:
            partitions = await partitions_of(connection, topic)
        except (KafkaError, OSError) as err:
            raise Unavailable(f"Kafka at {settings.kafka_brokers} did not answer: {err!r}") from err
        if not partitions:
            raise ConfigurationError(
                f"Kafka at {settings.kafka_brokers} has no topic {topic}; "
                "docs/operations.md says how to make it"
            )


def _page(consumer: Consumer) -> web.Application:
    async def alive(request: web.Request) -> web.Response:
        return web.json_response({"status": "alive"})

    async def ready(request: web.Request) -> web.Response:
        partitions = [tp.partition for tp in consumer.partitions]
        if consumer.failing_since is None:
            return web.json_response({"status": "ready", "partitions": partitions})
        seconds = int(time.time() - consumer.failing_since)
        answer = {"status": "failing", "partitions": partitions, "failing_seconds": seconds}
        return web.json_response(answer, status=503)

    async def metrics(request: web.Request) -> web.Response:
        body = generate_latest(consumer.metrics.registry)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})

    page = web.Application()
    page.router.add_get("/healthz", alive)
    page.router.add_get("/readyz", ready)
    page.router.add_get("/metrics", metrics)
    return page
