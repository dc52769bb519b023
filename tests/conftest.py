"""Owns what every test may ask for: the real parts as fixtures, and how hard hypothesis tries.

Owns no part's workings: those are in tests/rigs.
"""

from collections.abc import Iterator

import pytest

from tests.rigs.kafka import Kafka, KafkaUnavailable


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    """A real broker, started once; skips where there is no Java or no Maven."""
    try:
        broker = Kafka(tmp_path_factory.mktemp("kafka"))
    except KafkaUnavailable as missing:
        pytest.skip(f"needs a real Kafka: {missing}")
    try:
        broker.start()
        yield broker
    finally:
        broker.stop()


@pytest.fixture(autouse=True)
def _kafka_is_up(request: pytest.FixtureRequest) -> None:
    """A test that killed the broker and failed before the restart leaves the others unharmed."""
    if "kafka" in request.fixturenames:
        request.getfixturevalue("kafka").start()
