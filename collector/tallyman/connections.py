"""Opens what the settings name: the stores, Kafka and Stripe, for the server and for commands.

What is done over them is not known here: the server is put together in `app.py`.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tallyman import data_directory
from tallyman.billing.books import Books
from tallyman.config import Settings
from tallyman.errors import ConfigurationError
from tallyman.payments.stripe_app import StripeAccount
from tallyman.store.clickhouse import ClickHouse
from tallyman.store.completeness import Completeness
from tallyman.store.customers import CustomerStore
from tallyman.store.database import Database
from tallyman.store.events import EventStore
from tallyman.store.rollup import Rollup
from tallyman.store.seen import Seen
from tallyman.store.unattributed import UnattributedUsage
from tallyman.stream.kafka_connection import KafkaConnection
from tallyman.stream.reconcile import KafkaTopics, Reconciliation


def open_database(settings: Settings) -> Database:
    """The relational store, not yet migrated."""
    if settings.database_url is not None:
        return Database.postgres(settings.database_url.get_secret_value())
    data_directory.create(settings.data_dir)
    return Database.sqlite(data_directory.database_path(settings.data_dir))


def open_clickhouse(settings: Settings) -> ClickHouse:
    """The store of events, not yet migrated.

    Raises:
        ConfigurationError: the settings cannot be used.
        Unavailable: nothing answers.
    """
    if settings.clickhouse_url is not None:
        url = settings.clickhouse_url.get_secret_value()
        return ClickHouse.server(url, cluster=settings.clickhouse_cluster)
    if settings.clickhouse_cluster is not None:
        raise ConfigurationError("clickhouse_cluster needs clickhouse_url: chDB is in no cluster")
    data_directory.create(settings.data_dir)
    return ClickHouse.embedded(str(data_directory.events_path(settings.data_dir)))


def books(settings: Settings, database: Database, clickhouse: ClickHouse) -> Books:
    """What billing reads and writes."""
    settle = 0.0 if settings.clickhouse_url is None else settings.billing_settle_seconds
    return Books(database, clickhouse, settle)


def rollup(settings: Settings, clickhouse: ClickHouse) -> Rollup:
    """What counts of each hour, to be refreshed and compared.

    Also chDB's stays behind its clock: one that is set back by less than that hides nothing.
    """
    return Rollup(clickhouse, settings.billing_settle_seconds)


def reconciliation(
    settings: Settings, clickhouse: ClickHouse, customers: CustomerStore
) -> Reconciliation:
    """What says whether anything is missing."""
    kafka = kafka_connection(settings)
    topics = None
    if kafka is not None:
        dead_topic, group = settings.kafka_dead_topic, settings.kafka_group
        topics = KafkaTopics(kafka, settings.kafka_topic, dead_topic, group)
    nobodys = UnattributedUsage(clickhouse, customers)
    return Reconciliation(
        Completeness(clickhouse),
        Seen(clickhouse),
        rollup(settings, clickhouse),
        nobodys,
        topics,
    )


@asynccontextmanager
async def open_books(settings: Settings) -> AsyncIterator[Books]:
    """The same for a command, where no server runs beside it; migrated, and closed at the end."""
    clickhouse = open_clickhouse(settings)
    database = open_database(settings)
    try:
        await database.migrate()
        await EventStore(clickhouse).migrate()
        yield books(settings, database, clickhouse)
    finally:
        await database.close()
        await clickhouse.close()


def kafka_connection(settings: Settings) -> KafkaConnection | None:
    """How Kafka is reached; None where events are stored without it.

    Raises:
        ConfigurationError: the settings do not go together.
    """
    if settings.kafka_brokers is None:
        return None
    if settings.clickhouse_url is None:
        raise ConfigurationError(
            "kafka_brokers needs clickhouse_url: what the consumer stores, the API must see"
        )
    brokers = tuple(
        broker.strip() for broker in settings.kafka_brokers.split(",") if broker.strip()
    )
    if not brokers:
        raise ConfigurationError("kafka_brokers names no broker: host:port,host:port")
    authorities = settings.kafka_ssl_cafile
    if authorities is not None and not authorities.is_file():
        raise ConfigurationError(f"kafka_ssl_cafile {authorities} is no file")
    password = settings.kafka_sasl_password
    if settings.kafka_security_protocol.startswith("SASL") and (
        settings.kafka_sasl_username is None or password is None
    ):
        raise ConfigurationError(
            f"kafka_security_protocol {settings.kafka_security_protocol} needs "
            "kafka_sasl_username and kafka_sasl_password"
        )
    return KafkaConnection(
        brokers,
        settings.kafka_security_protocol,
        settings.kafka_sasl_mechanism,
        settings.kafka_sasl_username,
        None if password is None else password.get_secret_value(),
        authorities,
    )


def stripe_account(settings: Settings) -> StripeAccount | None:
    """Stripe, as it is set up; None where it is not, or set to nothing, as Compose does.

    Raises:
        ConfigurationError: the key is none, or of live mode without `stripe_live`.
    """
    key, secret = settings.stripe_api_key, settings.stripe_webhook_secret
    if key is None or not key.get_secret_value():
        return None
    return StripeAccount(
        key.get_secret_value(),
        settings.stripe_namespace,
        None if secret is None else secret.get_secret_value() or None,
        settings.stripe_api_url.rstrip("/"),
        settings.stripe_live,
    )
