"""`/events`: taken in, one or a batch, and listed."""

from collections.abc import Sequence
from typing import Final

import msgspec
from aiohttp import web

from tallyman import metrics
from tallyman.api import auth, event_bodies, parameters
from tallyman.api.parameters import Condition, ListParameters
from tallyman.api.request_body import require_content_type
from tallyman.api.route import JSON
from tallyman.api.state import (
    CALLER,
    CUSTOMERS,
    EVENT_CHANGES,
    EVENTS,
    INTAKE,
    METERS,
    NEW_SUBJECTS,
    NOW,
    SAYS_WHAT_WAS_NEW,
    SETTINGS,
    SHARES,
    SUBSCRIPTIONS,
)
from tallyman.domain.attribution import Nobody, NotBilled, not_billed, owner_of
from tallyman.domain.event import CloudEvent, parse_event, parse_events
from tallyman.domain.event_query import (
    EventFilter,
    EventOrder,
    EventSort,
    SpanFilter,
    StoredEvent,
)
from tallyman.domain.event_value import problems
from tallyman.errors import InvalidEvent, TooLarge
from tallyman.store.customers import CustomerStore
from tallyman.store.events import Accepted, Received
from tallyman.store.turns import asked_by

ONE: Final = "application/cloudevents+json"
BATCH: Final = "application/cloudevents-batch+json"
LIST: Final = ListParameters(
    texts=("id", "source", "subject", "type"),
    exact=("customer_id",),
    times=("time", "ingested_at", "stored_at"),
    sortable=("time", "ingested_at", "stored_at"),
    descending=True,
    pages="cursor",
)


async def ingest(request: web.Request) -> web.Response:
    """Answer 202 when every event of the body is durable; of a batch with a bad one none is."""
    parameters.refuse_any(request)
    content_type = require_content_type(request, ONE, BATCH, JSON)
    body = await request.read()
    try:
        if content_type == BATCH or (content_type == JSON and body.lstrip()[:1] == b"["):
            events = parse_events(body)
        else:
            events = [parse_event(body)]
    except InvalidEvent as err:
        metrics.EVENTS.labels("rejected").inc(len(err.parameters))
        raise
    accepted = await accept(request, events)
    response = web.Response(status=202)
    if accepted is not None:
        response.headers["Tallyman-New"] = str(accepted.new)
        response.headers["Tallyman-Known"] = str(accepted.known)
        response.headers["Tallyman-Conflicts"] = str(len(accepted.conflicts))
    return response


async def accept(request: web.Request, events: Sequence[CloudEvent]) -> Accepted | None:
    """Make the events durable in the caller's namespace, and count what became of them.

    None where they went to Kafka: only its consumer will know which were new.

    Raises:
        TooLarge: they are more than one request may bring.
        TooManyRequests: the key has its share under way.
        TooManySubjects: they bring new subjects, and the key has none left.
    """
    most = request.app[SETTINGS].max_batch_events
    if len(events) > most:
        raise TooLarge(f"the batch has {len(events)} events, and may have {most}")
    says_what_was_new = request.app[SAYS_WHAT_WAS_NEW]
    if not events:
        return Accepted(new=0, known=0) if says_what_was_new else None
    namespace = request[CALLER].namespace
    received = [Received(namespace, event, request[NOW]) for event in events]
    shares, actor = request.app[SHARES], request[CALLER].actor
    # The share is taken first: what is beyond it asks no store for its subjects.
    with shares.taken(actor, len(events)):
        if not auth.is_local(request):
            subjects = (event.subject for event in events)
            with asked_by(None):  # events wait for nobody's questions
                await request.app[NEW_SUBJECTS].admit(actor, namespace, subjects)
        with metrics.INGEST_SECONDS.time():
            accepted = await request.app[INTAKE].accept(received)
    if not says_what_was_new:
        metrics.EVENTS.labels("queued").inc(len(events))
        return None
    metrics.EVENTS.labels("new").inc(accepted.new)
    metrics.EVENTS.labels("known").inc(accepted.known)
    metrics.EVENTS.labels("conflict").inc(len(accepted.conflicts))
    return accepted


async def list_(request: web.Request) -> web.Response:
    """One page of the stored events."""
    asked = LIST.read(request)
    namespace, customers = request[CALLER].namespace, request.app[CUSTOMERS]
    page = await request.app[EVENTS].list_events(
        namespace,
        [await _filter(customers, namespace, found) for found in asked.conditions],
        EventSort(EventOrder(asked.sort_by), asked.descending),
        asked.size,
        asked.after,
    )
    types = {stored.event.type for stored in page.events}
    meters = await request.app[METERS].of_event_types(namespace, types)
    errors = [problems(stored.event, meters) for stored in page.events]
    owners = await customers.owners(namespace, {stored.event.subject for stored in page.events})
    whose = [
        owner_of(event.subject, event.time or stored.ingested_at, owners.get(event.subject, ()))
        for stored in page.events
        for event in [stored.event]
    ]
    unbilled = await _not_billed(request, page.events, whose)
    changes = await request.app[EVENT_CHANGES].of(
        namespace,
        {(one.event.source, one.event.id) for one in page.events if one.revision},
    )
    answer = event_bodies.page_of(page, asked.size, whose, unbilled, errors, changes)
    return web.Response(body=msgspec.json.encode(answer), content_type=JSON)


async def _not_billed(
    request: web.Request, events: Sequence[StoredEvent], whose: Sequence[str | Nobody]
) -> list[NotBilled | None]:
    """Why each event is on no invoice of its customer's; nothing where it has none."""
    customer_ids = {owner for owner in whose if isinstance(owner, str)}
    namespace = request[CALLER].namespace
    found = await request.app[SUBSCRIPTIONS].of_customers(namespace, customer_ids)
    served = {
        id_: [(one.active_from, one.active_to) for one in subscriptions]
        for id_, subscriptions in found.items()
    }
    return [
        not_billed(stored.event.time or stored.ingested_at, served[owner])
        if isinstance(owner, str)
        else None
        for stored, owner in zip(events, whose, strict=True)
    ]


async def _filter(
    customers: CustomerStore, namespace: str, asked: Condition
) -> EventFilter | SpanFilter:
    if asked.field != "customer_id":
        return EventFilter(asked.field, asked.operator, asked.values)
    ids = None if asked.operator == "exists" else [str(value) for value in asked.values]
    spans = [span for _, span in await customers.every_owner(namespace, ids)]
    is_without = asked.operator == "neq" or asked.values == ("false",)
    return SpanFilter(tuple(spans), within=not is_without)
