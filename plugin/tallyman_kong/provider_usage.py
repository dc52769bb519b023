"""Reads a provider's own usage numbers, as the usage reader published them; one function a format.

It knows the formats only. What a number means for a call, and what to do without one, is
`usage.py`'s.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

LARGEST_COUNT = 2**53  # what a JSON number keeps exactly everywhere

Fields = Mapping[str, Any]


class Counted(NamedTuple):
    """A value that was reported. `tokens` is None if it does not pass as a count."""

    tokens: int | None

    @classmethod
    def of(cls, value: Any) -> "Counted":
        """A count is a whole number from 0 to 2^53; a whole float is one, a bool is none."""
        if type(value) is not int and (
            isinstance(value, bool) or not isinstance(value, int | float)
        ):
            return cls(None)
        if not 0 <= value <= LARGEST_COUNT or value != int(value):
            return cls(None)
        return cls(int(value))


class Reported(NamedTuple):
    """What a provider said of one call: all input, all output; None where it said nothing.

    `is_final` tells numbers that end an answer from running ones, and from Anthropic's placeholder
    (`response_is_placeholder`). The cached numbers are part of `request`.
    """

    request: Counted | None
    response: Counted | None
    cache_read: Counted = Counted(0)
    cache_write: Counted = Counted(0)
    is_final: bool = True
    response_is_placeholder: bool = False


def read_reported(published: Fields) -> Reported | None:
    """Find the format by the shape of what was reported; None if it holds no usage.

    `published` is keyed by where each usage object stood: `usage`, `usageMetadata`, `ollama`,
    `meta`, or the same under `message.`, `response.`, `delta.`, `x_groq.`
    (stream-usage measurements on Kong 3.9.3).
    """
    objects = {where: value for where, value in published.items() if isinstance(value, Mapping)}
    for where, value in objects.items():
        if "billed_units" in value:
            return _cohere(value)
        if where.endswith("usageMetadata"):
            return _gemini(value)
        if where == "ollama":
            return _ollama(value)
    usage = _merged(objects)
    if "prompt_tokens" in usage or "completion_tokens" in usage:
        return _openai(usage)
    if "inputTokens" in usage or "outputTokens" in usage:
        return _bedrock(usage)
    if "response.usage" in objects or "input_tokens_details" in usage:
        return _openai_responses(usage)
    if "input_tokens" in usage or "output_tokens" in usage:
        return _anthropic(usage, placeholder="usage" not in objects)
    return None


def _merged(objects: Mapping[str, Fields]) -> dict[str, Any]:
    """One object of all the usage objects; a stream's last (`usage`) overrides its first."""
    merged: dict[str, Any] = {}
    for where in sorted(objects, key=lambda where: (where == "usage", where)):
        merged.update(objects[where])
    return merged


def _openai(usage: Fields) -> Reported:
    return Reported(
        request=_sum(usage, "prompt_tokens"),
        response=_sum(usage, "completion_tokens"),
        cache_read=_part(_object(usage, "prompt_tokens_details"), "cached_tokens"),
    )


def _openai_responses(usage: Fields) -> Reported:
    return Reported(
        request=_sum(usage, "input_tokens"),
        response=_sum(usage, "output_tokens"),
        cache_read=_part(_object(usage, "input_tokens_details"), "cached_tokens"),
    )


def _anthropic(usage: Fields, *, placeholder: bool) -> Reported:
    """Cache tokens come on top of input_tokens; message_start's output_tokens is a placeholder."""
    return Reported(
        request=_sum(
            usage, "input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"
        ),
        response=_sum(usage, "output_tokens"),
        cache_read=_part(usage, "cache_read_input_tokens"),
        cache_write=_part(usage, "cache_creation_input_tokens"),
        is_final=not placeholder,
        response_is_placeholder=placeholder,
    )


def _gemini(usage: Fields) -> Reported:
    """Cumulative in a stream, so never final by itself; proto JSON leaves out zeros."""
    thoughts_only = "candidatesTokenCount" not in usage and "thoughtsTokenCount" in usage
    return Reported(
        request=_sum(usage, "promptTokenCount", "toolUsePromptTokenCount"),
        response=_sum(usage, "thoughtsTokenCount")
        if thoughts_only
        else _sum(usage, "candidatesTokenCount", "thoughtsTokenCount"),
        cache_read=_part(usage, "cachedContentTokenCount"),
        is_final=False,
    )


def _bedrock(usage: Fields) -> Reported:
    return Reported(
        request=_sum(usage, "inputTokens", "cacheReadInputTokens", "cacheWriteInputTokens"),
        response=_sum(usage, "outputTokens"),
        cache_read=_part(usage, "cacheReadInputTokens"),
        cache_write=_part(usage, "cacheWriteInputTokens"),
    )


def _cohere(usage: Fields) -> Reported:
    """Billed units are what Cohere charges, fewer than the tokens that it also reports."""
    billed = _object(usage, "billed_units")
    return Reported(request=_sum(billed, "input_tokens"), response=_sum(billed, "output_tokens"))


def _ollama(usage: Fields) -> Reported:
    return Reported(request=_sum(usage, "prompt_eval_count"), response=_sum(usage, "eval_count"))


def _sum(usage: Fields, first: str, *others: str) -> Counted | None:
    """The first number and those of the others that are there; None without the first."""
    if usage.get(first) is None:
        return None
    parts = [Counted.of(usage[name]) for name in (first, *others) if usage.get(name) is not None]
    values = [part.tokens for part in parts if part.tokens is not None]
    return Counted.of(sum(values)) if len(values) == len(parts) else Counted(None)


def _part(usage: Fields, name: str) -> Counted:
    value = usage.get(name)
    return Counted(0) if value is None else Counted.of(value)


def _object(usage: Fields, name: str) -> Fields:
    value = usage.get(name)
    return value if isinstance(value, Mapping) else {}
