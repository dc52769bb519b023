"""Owns which topics and partitions there are.

It does not make any, nor read or write messages: see `compose/kafka/topics.sh`.
"""

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.structs import TopicPartition

from tallyman.stream.kafka_connection import KafkaConnection


async def partitions_of(connection: KafkaConnection, topic: str) -> list[TopicPartition]:
    """A topic's partitions in order; none where there is no such topic.

    Raises:
        KafkaError: no broker answered.
    """
    admin = AIOKafkaAdminClient(**connection.options())
    try:
        await admin.start()
        described = await admin.describe_topics([topic])
    finally:
        await admin.close()
    return sorted(
        TopicPartition(topic, partition["partition"])
        for found in described
        if found["topic"] == topic and not found["error_code"]
        for partition in found["partitions"]
    )
