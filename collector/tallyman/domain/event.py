"""A CloudEvent as it comes in: what is checked before anything is stored.

It does not know meters: whether an event counts is the meter's question.
"""

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal

import msgspec

from tallyman.domain.event_data import check_data
from tallyman.errors import InvalidEvent, InvalidParameter

LONGEST_TEXT: Final = 256
_LONGEST_NUMBER: Final = 20
EARLIEST: Final = datetime(1970, 1, 1, tzinfo=UTC)
LATEST: Final = datetime(2200, 1, 1, tzinfo=UTC)

Text = Annotated[str, msgspec.Meta(min_length=1, max_length=LONGEST_TEXT)]


class CloudEvent(msgspec.Struct, frozen=True, omit_defaults=True):
    """The envelope of CloudEvents 1.0; `data` is the JSON as it came, checked but not parsed.

    `nodeid` and `sequence` are the plugin's extension attributes; other extensions are dropped. Of
    an attribute that is sent twice the last counts, as most JSON readers have it.
    """

    id: Text
    source: Text
    type: Text
    subject: Text
    specversion: Literal["1.0"] = "1.0"
    time: Annotated[datetime, msgspec.Meta(tz=True)] | None = None
    datacontenttype: Literal["application/json"] | None = None
    dataschema: Text | None = None
    data: msgspec.Raw = msgspec.Raw()
    nodeid: Text | None = None
    sequence: Annotated[str, msgspec.Meta(pattern=f"^[0-9]{{1,{_LONGEST_NUMBER}}}$")] | None = None


class BareEvent(CloudEvent, frozen=True, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """An event that came with no other attribute than these."""

    # `_is_number` looks at it: msgspec takes as long for a pattern as for all the rest of an event.
    sequence: str | None = None


_bare = msgspec.json.Decoder(BareEvent)
_one = msgspec.json.Decoder(CloudEvent)
_many = msgspec.json.Decoder(list[msgspec.Raw])


def parse_event(body: bytes, at: str = "") -> CloudEvent:
    """Check one event. `at` prefixes the field names in the error, e.g. `[3].`.

    Raises:
        InvalidEvent: the body is no event; `parameters` names the field.
    """
    try:
        event = _decode(body)
    except msgspec.ValidationError as err:
        raise _invalid(_broken_rule(str(err)), at) from err
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as err:
        broken = InvalidParameter("", "invalid", f"must be JSON in UTF-8: {err}")
        raise _invalid(broken, at) from err
    broken_rule = _check_time(event.time) or check_data(event.data)
    if broken_rule is not None:
        raise _invalid(broken_rule, at)
    return event


def parse_events(body: bytes) -> list[CloudEvent]:
    """Check an array of events, all or nothing.

    Raises:
        InvalidEvent: the body is no array of events; every bad event is named.
    """
    try:
        raws = _many.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as err:
        raise InvalidEvent(
            "the body is not a JSON array of events",
            [InvalidParameter("body", "is_array", str(err))],
        ) from err
    events: list[CloudEvent] = []
    broken: list[InvalidParameter] = []
    for index, raw in enumerate(raws):
        try:
            events.append(parse_event(bytes(raw), f"[{index}]."))
        except InvalidEvent as err:
            broken.extend(err.parameters)
    if broken:
        raise InvalidEvent(f"{len(broken)} of {len(raws)} events are wrong; none was taken", broken)
    return events


def as_utc(moment: datetime) -> datetime:
    """An aware time, in UTC."""
    return moment if moment.tzinfo is UTC else moment.astimezone(UTC)


def _decode(body: bytes) -> CloudEvent:
    try:
        event = _bare.decode(body)
    except msgspec.ValidationError:
        return _one.decode(body)
    return event if event.sequence is None or _is_number(event.sequence) else _one.decode(body)


def _is_number(sequence: str) -> bool:
    return len(sequence) <= _LONGEST_NUMBER and sequence.isascii() and sequence.isdigit()


def _check_time(time: datetime | None) -> InvalidParameter | None:
    if time is None or EARLIEST <= time < LATEST:
        return None
    return InvalidParameter("time", "is_date_time", "must be from 1970 to 2199")


def _invalid(broken: InvalidParameter, at: str) -> InvalidEvent:
    field = f"{at}{broken.field}".rstrip(".") or "body"
    return InvalidEvent(
        f"{field} {broken.reason}",
        [InvalidParameter(field, broken.rule, broken.reason, extra=broken.extra)],
    )


def _broken_rule(text: str) -> InvalidParameter:
    """Turn msgspec's message, such as "Expected `str`, got `int` - at `$.id`", into a named rule."""
    what, _, path = text.partition(" - at `$")
    field = path.rstrip("`").lstrip(".")
    for pattern, rule, reason in _RULES:
        if match := re.search(pattern, what):
            extra: dict[str, Any] = {}
            if rule in ("min_length", "max_length"):
                extra = {rule.replace("_length", "imum"): int(match[1])}
            elif rule == "enum":
                extra = {"choices": ["1.0" if field == "specversion" else "application/json"]}
            elif rule == "required":
                field = match[1]
            return InvalidParameter(field, rule, reason.format(*match.groups()), extra=extra)
    return InvalidParameter(field, "invalid", what)


_RULES: Final = (
    (r"missing required field `(\w+)`", "required", "is required"),
    (r"`str` of length <= (\d+)", "max_length", "must be at most {0} characters"),
    (r"`str` of length >= (\d+)", "min_length", "must be at least {0} character"),
    (r"`str` matching regex", "matches_regex", "must be 1 to 20 digits"),
    (r"RFC3339|`datetime", "is_date_time", "must be an RFC 3339 time with a zone"),
    (r"Invalid enum value|`str`.*\bnull\b.*enum", "enum", "must be one of the choices"),
    (r"Expected `object`", "is_object", "must be an object"),
    (r"Expected `str", "is_string", "must be a string"),
)
