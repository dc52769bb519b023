#!/usr/bin/env bash
# Makes the two topics where they are not there yet.
set -euo pipefail

readonly DAY=$((24 * 60 * 60 * 1000))
readonly KAFKA_TOPICS=${KAFKA_TOPICS:-/opt/kafka/bin/kafka-topics.sh}

create() {
  "$KAFKA_TOPICS" --bootstrap-server "$KAFKA_BROKERS" --create --if-not-exists \
    --replication-factor "${KAFKA_REPLICATION:-1}" "$@"
}

# Keyed by subject: one partition, so one consumer, has all of a subject's events. More partitions
# later would move subjects, so there are more than one machine needs; consumers share them.
create --topic llm.usage --partitions 12 \
  --config retention.ms=$((14 * DAY)) --config min.insync.replicas="${KAFKA_MIN_IN_SYNC:-1}"

# What could not be metered waits for a person.
create --topic llm.usage.dead --partitions 1 \
  --config retention.ms=$((180 * DAY)) --config min.insync.replicas="${KAFKA_MIN_IN_SYNC:-1}"
