"""`POST /kong/log`: what Kong's bundled http-log sends becomes the events that the plugin would make.

The rules are the plugin's own. A bad entry does not keep its neighbours from being counted, and is
answered 200: http-log would send the whole batch again and again, and then drop it.
"""

import logging
from dataclasses import dataclass, field
from typing import Any

import msgspec
from aiohttp import web
from tallyman_kong.entry import decode
from tallyman_kong.usage import UsageConfiguration

from tallyman import metrics
from tallyman.api import parameters
from tallyman.api.events import accept
from tallyman.api.request_body import require_content_type
from tallyman.api.route import JSON
from tallyman.api.state import TRACE, USAGE
from tallyman.domain.event import CloudEvent
from tallyman.errors import InvalidEvent, InvalidInput, InvalidParameter
from tallyman.kong_entry import events_of

log = logging.getLogger(__name__)


class KongLogAnswer(msgspec.Struct):
    """What became of the entries.

    `found`, `new`, `known` and `conflicts` count events; `ignored` (no LLM call) and `bad` count
    entries. `new`, `known` and `conflicts` are null where events go through Kafka.
    """

    found: int
    new: int | None
    known: int | None
    conflicts: int | None
    ignored: int
    bad: int


@dataclass
class _Found:
    events: list[CloudEvent] = field(default_factory=list)
    ignored: int = 0
    bad: list[str] = field(default_factory=list)


async def take(request: web.Request) -> web.Response:
    """Answer 200 when every event of the entries is durable."""
    parameters.refuse_any(request)
    require_content_type(request, JSON)
    found = _read(_entries(await request.read()), request.app[USAGE])
    accepted = await accept(request, found.events)
    for reason in found.bad:
        log.warning("an entry of Kong's log was bad: %s kong:trace:%s", reason, request[TRACE])
    answer = KongLogAnswer(
        found=len(found.events),
        new=None if accepted is None else accepted.new,
        known=None if accepted is None else accepted.known,
        conflicts=None if accepted is None else len(accepted.conflicts),
        ignored=found.ignored,
        bad=len(found.bad),
    )
    return web.Response(body=msgspec.json.encode(answer), content_type=JSON)


def _entries(body: bytes) -> list[Any]:
    try:
        decoded = decode(body)
    except (ValueError, RecursionError) as err:
        reason = "must be JSON: an entry of Kong's log, or an array of them"
        raise InvalidInput(
            f"the body {reason}", [InvalidParameter("body", "invalid", reason)]
        ) from err
    if isinstance(decoded, dict):
        return [decoded]
    if not isinstance(decoded, list):
        reason = "must be an entry of Kong's log, or an array of them"
        raise InvalidInput(f"the body {reason}", [InvalidParameter("body", "is_object", reason)])
    return decoded


def _read(entries: list[Any], configuration: UsageConfiguration) -> _Found:
    found = _Found()
    for index, entry in enumerate(entries):
        try:
            events = events_of(entry, configuration)
        except InvalidEvent as err:
            found.bad.append(f"[{index}]: {err}")
            metrics.KONG_LOG_ENTRIES.labels("bad").inc()
            continue
        found.events.extend(events)
        found.ignored += not events
        metrics.KONG_LOG_ENTRIES.labels("counted" if events else "ignored").inc()
    return found
