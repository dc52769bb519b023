"""Kafka, and the ways in: who takes events, how they travel, and what becomes of those that are none.

It does not know HTTP, nor how events are stored.
"""
