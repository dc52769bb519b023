"""The meters that every namespace has from the start."""

from dataclasses import dataclass
from typing import Final

from tallyman.domain.meter import Aggregation

EVENT_TYPE: Final = "llm.tokens"

# Every field of the plugin's event that tells calls apart; see docs/counting.md.
DIMENSIONS: Final = {
    name: f"$.{name}"
    for name in (
        "model",
        "type",
        "provider",
        "request_model",
        "consumer_id",
        "credential_id",
        "service",
        "route",
        "workspace",
        "status_code",
        "stream",
        "outcome",
        "usage_source",
        "waived_tokens",
        "latency_ms",
        "llm_latency_ms",
        "task",
        "feature",
    )
}


@dataclass(frozen=True)
class BuiltinMeter:
    """A meter without a namespace: each namespace gets its own row of it.

    `only` keeps the events whose dimension has this value; no meter of a user's has such a filter.
    Where `has_value_always` is false, an event without a value is none to wonder about.
    """

    key: str
    name: str
    description: str
    aggregation: Aggregation
    value_property: str | None
    only: tuple[str, str] | None = None
    has_value_always: bool = True


BUILTIN_METERS: Final = (
    BuiltinMeter(
        "kong_konnect_llm_tokens",
        "AI Gateway Tokens",
        "Tokens that count, by model and type",
        Aggregation.SUM,
        "$.tokens",
    ),
    BuiltinMeter(
        "tallyman_llm_calls",
        "LLM calls",
        "Calls through the gateway, however they went: each gives one event of type request",
        Aggregation.COUNT,
        None,
        only=("type", "request"),
    ),
    BuiltinMeter(
        "tallyman_llm_waived_tokens",
        "Waived tokens",
        "Tokens that the policy does not charge for",
        Aggregation.SUM,
        "$.waived_tokens",
        has_value_always=False,
    ),
    BuiltinMeter(
        "tallyman_llm_estimated_tokens",
        "Estimated tokens",
        "Tokens that count although the provider did not report them",
        Aggregation.SUM,
        "$.tokens",
        only=("usage_source", "estimated"),
    ),
)
