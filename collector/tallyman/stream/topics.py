"""Owns which topics and partitions there are, and makes those that are missing.

It does not read or write messages.
"""

import logging
from collections.abc import Mapping

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code
from aiokafka.structs import TopicPartition

from tallyman.stream.kafka_connection import KafkaConnection

log = logging.getLogger(__name__)


async def partitions_of(connection: KafkaConnection, topic: str) -> list[TopicPartition]:
    """A topic's partitions in order; none where there is no such topic.

    Raises:
        KafkaError: no broker answered.
    """
    admin = AIOKafkaAdminClient(**connection.options())
    try:
        await admin.start()
        return await _partitions(admin, topic)
    finally:
        await admin.close()


async def create_topic(
    connection: KafkaConnection,
    topic: str,
    partitions: int,
    replication: int,
    config: Mapping[str, str],
) -> None:
    """Make a topic unless it is there. Where that is not allowed, only say so: it may be there soon.

    Raises:
        KafkaError: no broker answered.
    """
    admin = AIOKafkaAdminClient(**connection.options())
    try:
        await admin.start()
        if await _partitions(admin, topic):
            return
        answer = await admin.create_topics(
            [NewTopic(topic, partitions, replication, topic_configs=dict(config))]
        )
    finally:
        await admin.close()
    for name, code, message in answer.topic_errors:
        error = for_code(code)
        if code and not issubclass(error, TopicAlreadyExistsError):
            log.warning("the topic %s could not be created: %s", name, message or error.__name__)


async def _partitions(admin: AIOKafkaAdminClient, topic: str) -> list[TopicPartition]:
    try:
        described = await admin.describe_topics([topic])
    except KafkaError as err:
        if getattr(err, "errno", None) == 3:  # unknown topic
            return []
        raise
    return sorted(
        TopicPartition(topic, partition["partition"])
        for found in described
        if found["topic"] == topic and not found["error_code"]
        for partition in found["partitions"]
    )
