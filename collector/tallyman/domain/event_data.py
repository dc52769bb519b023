"""The data of an event: JSON whose numbers are kept exactly, or refused.

It does not know meters: see `event_value.py`.
"""

import json
from collections.abc import Iterable
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any, Final

import msgspec

from tallyman.errors import InvalidParameter

LONGEST_DATA_BYTES: Final = 64 * 1024
LONGEST_KEY: Final = 256
DEEPEST: Final = 32
SMALLEST_INTEGER: Final = -(2**63)
LARGEST_INTEGER: Final = 2**64 - 1
_ALWAYS_EXACT: Final = 16  # a literal this long has at most 15 digits: any double keeps them


class _Inexact(Exception):
    """A number that JSON readers, ClickHouse's among them, would round."""


class _Literal(str):
    """A number as it was written, so that it can be found again."""


def check_data(raw: bytes | msgspec.Raw) -> InvalidParameter | None:
    """What is wrong with an event's data, if anything; absent and null are fine."""
    if len(raw) <= LONGEST_DATA_BYTES:
        try:
            _usage.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError):
            pass
        else:
            return None
    return _check_any(bytes(raw))


def _check_any(raw: bytes) -> InvalidParameter | None:
    if raw in (b"", b"null"):
        return None
    if len(raw) > LONGEST_DATA_BYTES:
        reason = f"must be at most {LONGEST_DATA_BYTES} bytes of JSON"
        extra = {"maximum": LONGEST_DATA_BYTES}
        return InvalidParameter("data", "max_length", reason, extra=extra)
    if raw[:1] != b"{":
        return InvalidParameter("data", "is_object", "must be an object or null")
    try:
        _decoder.decode(raw)
        flat = raw.count(b"{") + raw.count(b"[") == 1
        if flat and _LONG_RUN not in raw.translate(_RUNS):
            return None
        return _walk(_any.decode(raw), "data", 1)
    except (_Inexact, msgspec.ValidationError, RecursionError):
        return _find(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as err:
        return _no_json(err)


def _exact_float(literal: str) -> float:
    number = float(literal)
    short = len(literal) <= _ALWAYS_EXACT and "e" not in literal and "E" not in literal
    if not short and not _is_kept(literal, number):
        raise _Inexact(literal)
    return number


def _is_kept(literal: str, number: float) -> bool:
    try:
        return Decimal(literal) == Decimal(repr(number))
    except InvalidOperation:  # an exponent of more digits than Decimal takes
        return False


_Exact = Annotated[int, msgspec.Meta(ge=SMALLEST_INTEGER, le=2**63 - 1)]


class _Usage(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """What the plugin sends: flat, and only of texts and integers, so that all of it is exact."""

    tokens: _Exact | None = None
    type: str | None = None
    usage_source: str | None = None
    waived_tokens: _Exact | None = None
    provider: str | None = None
    model: str | None = None
    request_model: str | None = None
    consumer_id: str | None = None
    credential_id: str | None = None
    service: str | None = None
    route: str | None = None
    workspace: str | None = None
    status_code: _Exact | None = None
    stream: bool | None = None
    outcome: str | None = None
    latency_ms: _Exact | None = None
    llm_latency_ms: _Exact | None = None
    task: str | None = None
    feature: str | None = None


# The quickest check, which most events pass; those that do not are read in full.
_usage: Final = msgspec.json.Decoder(_Usage)
# The quick check: one decode, and a walk through the values only if there may be something to find.
_Key = Annotated[str, msgspec.Meta(max_length=LONGEST_KEY)]
_decoder: Final = msgspec.json.Decoder(dict[_Key, Any], float_hook=_exact_float)
_any: Final = msgspec.json.Decoder(float_hook=_exact_float)
_RUNS: Final = bytes(48 if chr(byte).isdigit() and byte < 128 else byte for byte in range(256))
_LONG_RUN: Final = b"0" * 19


def _find(raw: bytes) -> InvalidParameter:
    """Read data that is wrong again, slowly, for the path of what is wrong."""
    try:
        value = json.loads(raw, parse_float=_read_float, parse_int=_read_integer)
        found = _walk(value, "data", 1)
    except RecursionError:
        return _too_deep("data")
    except ValueError as err:  # behind what the quick check stopped at
        return _no_json(err)
    # json keeps the last of two members with one name, and what is wrong was an earlier one.
    return found or InvalidParameter("data", "invalid", "must not have a name twice")


def _no_json(err: Exception) -> InvalidParameter:
    return InvalidParameter("data", "invalid", f"must be JSON in UTF-8: {err}")


def _walk(value: Any, at: str, depth: int) -> InvalidParameter | None:
    """The first broken rule within an object or array."""
    if depth > DEEPEST:
        return _too_deep(at)
    pairs: Iterable[tuple[Any, Any]] = (
        value.items() if isinstance(value, dict) else enumerate(value)
    )
    for key, child in pairs:
        if isinstance(key, str) and len(key) > LONGEST_KEY:
            reason = f"has a key longer than {LONGEST_KEY} characters"
            return InvalidParameter(at, "max_length", reason, extra={"maximum": LONGEST_KEY})
        if isinstance(child, _Literal):
            return _inexact(_join(at, key), child)
        if isinstance(child, int) and not SMALLEST_INTEGER <= child <= LARGEST_INTEGER:
            return _inexact(_join(at, key), str(child))
        if isinstance(child, dict | list):
            broken = _walk(child, _join(at, key), depth + 1)
            if broken is not None:
                return broken
    return None


def _read_float(literal: str) -> float | _Literal:
    try:
        return _exact_float(literal)
    except _Inexact:
        return _Literal(literal)


def _read_integer(literal: str) -> int | _Literal:
    fits = len(literal) < 21 and SMALLEST_INTEGER <= int(literal) <= LARGEST_INTEGER
    return int(literal) if fits else _Literal(literal)


def _inexact(at: str, literal: str) -> InvalidParameter:
    shown = literal if len(literal) <= 40 else f"{literal[:40]}…"
    reason = f"{shown} cannot be kept exactly as a JSON number: send it as a string"
    return InvalidParameter(at, "is_number", reason)


def _too_deep(at: str) -> InvalidParameter:
    reason = f"must not be nested deeper than {DEEPEST}"
    return InvalidParameter(at[:256], "max", reason, extra={"maximum": DEEPEST})


def _join(at: str, key: str | int) -> str:
    return f"{at}[{key}]" if isinstance(key, int) else f"{at}.{key}"
