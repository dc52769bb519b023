"""`tallyman dead`: what was set aside is shown, and sent round again when its cause is gone."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import click
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from rich.console import Console
from rich.table import Table
from tallyman_kong import kafka_producer

from tallyman import connections
from tallyman.commands.listing import Listing
from tallyman.commands.settings_option import with_settings
from tallyman.config import Settings
from tallyman.errors import InvalidInput, Unavailable
from tallyman.stream.dead_letters import CLOSE_SECONDS, DeadLetter, read_dead_letters, replay_letter
from tallyman.stream.kafka_connection import KafkaConnection

WITHOUT_KAFKA = (
    "Without Kafka nothing is set aside: a bad event is refused with 400, and a bad entry of "
    'POST /kong/log is logged and counted in tallyman_kong_log_entries_total{result="bad"}.'
)


@dataclass(frozen=True)
class Selection:
    """Which letters are meant; empty fields do not narrow. `places` are (partition, offset)."""

    places: frozenset[tuple[int, int]] = frozenset()
    code: str | None = None
    replayed_too: bool = False

    def has(self, letter: DeadLetter) -> bool:
        return (
            (self.replayed_too or letter.replayed_at is None)
            and (not self.places or letter.place in self.places)
            and (self.code is None or letter.code.startswith(self.code))
        )


@click.group(cls=Listing)
def dead() -> None:
    """Show and replay messages from Kafka that are no events."""


@dead.command("list")
@click.option("--reason", "code", help="Only those whose code begins with this.")
@click.option("--all", "replayed_too", is_flag=True, help="Those that were replayed too.")
@click.option(
    "--show-value",
    is_flag=True,
    help="The message too. It may hold whatever its producer sent, prompts and keys as well.",
)
@with_settings
def list_(settings: Settings, code: str | None, replayed_too: bool, show_value: bool) -> None:
    """Show what was set aside, when, why and from where; not the messages themselves."""
    connection = connections.kafka_connection(settings)
    if connection is None:
        click.echo(WITHOUT_KAFKA)
        return
    selection = Selection(code=code, replayed_too=replayed_too)
    asyncio.run(_list(settings, connection, selection, show_value))


@dead.command()
@click.option("--all", "everything", is_flag=True, help="Every letter.")
@click.option(
    "--letter",
    "letters",
    multiple=True,
    metavar="PARTITION/OFFSET",
    help="This one, as `dead list` names it; give the option again for more.",
)
@click.option("--reason", "code", help="Those whose code begins with this.")
@click.option("--again", is_flag=True, help="Those too that were replayed before.")
@with_settings
def replay(
    settings: Settings, everything: bool, letters: tuple[str, ...], code: str | None, again: bool
) -> None:
    """Send letters to the topic that they came from, each once.

    An event that was stored meanwhile is known by its id, and dropped.
    """
    if everything == bool(letters or code):
        raise click.UsageError("Say which: --all, or --letter and --reason.")
    connection = connections.kafka_connection(settings)
    if connection is None:
        click.echo(WITHOUT_KAFKA)
        return
    selection = Selection(frozenset(_place(letter) for letter in letters), code, again)
    asyncio.run(_replay(settings, connection, selection))


async def _list(
    settings: Settings, connection: KafkaConnection, selection: Selection, show_value: bool
) -> None:
    table = Table("letter", "set aside", "code", "reason", "from", "bytes", "replayed")
    if show_value:
        table.add_column("message", overflow="fold")
    with _kafka_errors(settings):
        async for letter in read_dead_letters(connection, settings.kafka_dead_topic):
            if selection.has(letter):
                table.add_row(*_row(letter), *([_shown(letter)] if show_value else []))
    Console(width=None if Console().is_terminal else 240, markup=False).print(table)
    click.echo(f"{table.row_count} dead letters")


async def _replay(settings: Settings, connection: KafkaConnection, selection: Selection) -> None:
    replayed = 0
    with _kafka_errors(settings):
        async with _producer(connection) as producer:
            async for letter in read_dead_letters(connection, settings.kafka_dead_topic):
                if not selection.has(letter):
                    continue
                if letter.left_out_bytes:
                    name = "/".join(map(str, letter.place))
                    click.echo(f"{name} was too large to be kept: read {letter.origin} itself")
                    continue
                await replay_letter(producer, settings.kafka_dead_topic, letter)
                replayed += 1
    click.echo(f"{replayed} dead letters sent to where they came from")


@contextlib.asynccontextmanager
async def _producer(connection: KafkaConnection) -> AsyncIterator[AIOKafkaProducer]:
    producer = AIOKafkaProducer(**connection.durable_producer_options())
    try:
        await producer.start()
        yield producer
    finally:
        await kafka_producer.close(producer, CLOSE_SECONDS)


@contextlib.contextmanager
def _kafka_errors(settings: Settings) -> Iterator[None]:
    try:
        yield
    except (KafkaError, OSError) as err:
        raise Unavailable(f"Kafka at {settings.kafka_brokers}: {err!r}") from err


def _place(letter: str) -> tuple[int, int]:
    partition, _, offset = letter.partition("/")
    if not (partition.isdecimal() and offset.isdecimal()):
        raise InvalidInput(f"{letter} is no letter: it must be PARTITION/OFFSET, such as 0/17")
    return int(partition), int(offset)


def _row(letter: DeadLetter) -> tuple[str, ...]:
    return (
        f"{letter.place[0]}/{letter.place[1]}",
        f"{letter.died_at:%Y-%m-%d %H:%M:%S}",
        letter.code,
        letter.reason,
        letter.origin,
        str(letter.size_bytes),
        "" if letter.replayed_at is None else f"{letter.replayed_at:%Y-%m-%d %H:%M:%S}",
    )


def _shown(letter: DeadLetter) -> str:
    """The message on one line, in characters that a terminal does not obey."""
    text = (letter.value or b"").decode(errors="backslashreplace")
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
