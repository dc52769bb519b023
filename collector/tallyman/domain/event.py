"""A CloudEvent as it comes in: what is checked before anything is stored.

It does not know meters: whether an event counts is the meter's question.
"""

from datetime import UTC, datetime
from typing import Annotated, Final, Literal

import msgspec

from tallyman.errors import InvalidEvent, InvalidParameter

LONGEST_ID: Final = 256
LONGEST_TYPE: Final = 256
LONGEST_DATA_BYTES: Final = 64 * 1024

Text = Annotated[str, msgspec.Meta(min_length=1, max_length=LONGEST_ID)]


class CloudEvent(msgspec.Struct, frozen=True, omit_defaults=True):
    """The envelope of CloudEvents 1.0; `data` is the JSON as it came, not yet parsed.

    `nodeid` and `sequence` are the plugin's extension attributes; other extensions are dropped.
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
    sequence: Annotated[str, msgspec.Meta(pattern="^[0-9]{1,20}$")] | None = None


_one = msgspec.json.Decoder(CloudEvent)
_many = msgspec.json.Decoder(list[msgspec.Raw])


def parse_event(body: bytes, at: str = "") -> CloudEvent:
    """Check one event. `at` prefixes the field names in the error, e.g. `[3].`.

    Raises:
        InvalidEvent: the body is no event; `parameters` names the field.
    """
    try:
        event = _one.decode(body)
    except msgspec.ValidationError as err:
        raise _invalid(err, at) from err
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as err:
        raise InvalidEvent(
            "the event is not JSON",
            [InvalidParameter(at.rstrip(".") or "body", "invalid", str(err))],
        ) from err
    return event


def parse_events(body: bytes) -> list[CloudEvent]:
    """Check an array of events, all or nothing.

    Raises:
        InvalidEvent: the body is no array of events; every bad event is named.
    """
    try:
        raws = _many.decode(body)
    except msgspec.DecodeError as err:
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
        raise InvalidEvent("no event of the batch was taken", broken)
    return events


def as_utc(moment: datetime) -> datetime:
    """An aware time, in UTC."""
    return moment.astimezone(UTC)


def _invalid(err: msgspec.ValidationError, at: str) -> InvalidEvent:
    """Turn msgspec's `Expected … - at `$.field`` into a named field."""
    text, _, path = str(err).partition(" - at `$")
    name = path.rstrip("`").lstrip(".")
    rule = "invalid"
    if "missing required field" in text:
        name = text.split("`")[1]
        rule = "required"
    return InvalidEvent(
        f"the event's {name or 'body'} is wrong: {text}",
        [InvalidParameter(f"{at}{name}".rstrip(".") or "body", rule, text)],
    )
