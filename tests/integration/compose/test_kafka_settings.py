"""Gives docker-compose.yml's Kafka settings and topics to a real Kafka."""

import os
import shutil
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest

from tests.rigs.kafka import Kafka, KafkaUnavailable, fetch
from tests.unit.compose.composed import ROOT, environment

TOPICS_SCRIPT = ROOT / "compose" / "kafka" / "topics.sh"
DAY_MS = 24 * 60 * 60 * 1000


def test_kafka_takes_the_settings_of_its_service(tmp_path: Path) -> None:
    try:
        jars = fetch()
    except KafkaUnavailable as missing:
        pytest.skip(f"needs a real Kafka: {missing}")
    # What apache/kafka's image does with its environment: KAFKA_LOG_DIRS becomes log.dirs.
    settings = {
        name.removeprefix("KAFKA_").lower().replace("_", "."): value
        for name, value in environment("kafka").items()
    }
    settings["log.dirs"] = str(tmp_path / "data")
    properties = tmp_path / "server.properties"
    properties.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))

    java = ["java", "-Xmx128m", "-XX:TieredStopAtLevel=1", "-cp", f"{jars}/*"]
    cluster = ["-t", "AAAAAAAAAAAAAAAAAAAAAQ", "-c", str(properties)]
    done = subprocess.run(
        [*java, "kafka.tools.StorageTool", "format", *cluster],
        check=False,
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "data" / "meta.properties").is_file()


async def test_kafka_takes_the_topics_of_the_script(kafka: Kafka, tmp_path: Path) -> None:
    topics = asked_of_kafka_topics(tmp_path)

    assert topics == {
        "llm.usage": (12, {"retention.ms": str(14 * DAY_MS), "min.insync.replicas": "1"}),
        "llm.usage.dead": (1, {"retention.ms": str(180 * DAY_MS), "min.insync.replicas": "1"}),
    }
    for name, (partitions, config) in topics.items():
        await kafka.create_topic(f"compose.{name}", partitions, config)  # raises if it is refused


def asked_of_kafka_topics(folder: Path) -> dict[str, tuple[int, dict[str, str]]]:
    """Partitions and settings by topic, as the script gives them to `kafka-topics.sh`."""
    stand_in, asked = folder / "kafka-topics.sh", folder / "asked"
    stand_in.write_text(f'#!/bin/sh\necho "$*" >> {asked}\n')
    stand_in.chmod(0o755)
    bash = shutil.which("bash")
    assert bash is not None
    subprocess.run(
        [bash, TOPICS_SCRIPT],
        check=True,
        env={"PATH": os.environ["PATH"], "KAFKA_TOPICS": str(stand_in), "KAFKA_BROKERS": "b:1"},
    )
    topics = {}
    for line in asked.read_text().splitlines():
        words = line.split()
        pairs = list(pairwise(words))
        given = dict(pairs)
        config = dict(value.split("=", 1) for word, value in pairs if word == "--config")
        topics[given["--topic"]] = (int(given["--partitions"]), config)
    return topics
