"""Events on their way in: Kafka, group commit, replay, dead letters."""
