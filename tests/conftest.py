"""Owns what every test may ask for: the real parts as fixtures, and how hard hypothesis tries.

Owns no part's workings: those are in tests/rigs.
"""

import os
import signal
from collections.abc import Iterator

import hypothesis
import pytest

from tests.rigs.clickhouse import ClickHouse, Shim, container
from tests.rigs.kafka import Kafka, KafkaUnavailable

# No deadlines: on a busy machine they fail tests that are right. `ci` is the same on every run; `search`
# looks in new places, and longer, and prints how a failure is repeated.
hypothesis.settings.register_profile("ci", deadline=None, max_examples=100, derandomize=True)
hypothesis.settings.register_profile("search", deadline=None, max_examples=2000, print_blob=True)
hypothesis.settings.load_profile("search" if os.environ.get("FAULTS") == "long" else "ci")


# A run that is ended from outside still stops what it started.
signal.signal(signal.SIGTERM, signal.default_int_handler)

STARTED: list[Kafka | Shim] = []


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    """A real broker, started once; skips where there is no Java or no Maven."""
    try:
        broker = Kafka(tmp_path_factory.mktemp("kafka"))
    except KafkaUnavailable as missing:
        pytest.skip(f"needs a real Kafka: {missing}")
    try:
        broker.start()
        STARTED.append(broker)
        yield broker
    finally:
        broker.stop()


@pytest.fixture(scope="session")
def clickhouse_shim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shim]:
    """ClickHouse's HTTP interface over chDB, which fails, waits and is killed on demand."""
    shim = Shim(tmp_path_factory.mktemp("clickhouse"))
    try:
        shim.start()
        STARTED.append(shim)
        yield shim
    finally:
        shim.stop()


@pytest.fixture(scope="session")
def clickhouse_server(request: pytest.FixtureRequest) -> Iterator[ClickHouse]:
    """A ClickHouse to reach over HTTP: a real one where Docker is, the shim otherwise."""
    with container() as server:
        yield server or request.getfixturevalue("clickhouse_shim").address


@pytest.fixture
def clickhouse_database(clickhouse_server: ClickHouse) -> Iterator[str]:
    """The name of a fresh database on that server."""
    with clickhouse_server.database() as name:
        yield name


@pytest.fixture(autouse=True)
def _what_was_started_is_well() -> None:
    """A test that killed or broke a part, and failed, leaves the other tests unharmed."""
    for part in STARTED:
        part.recover()
