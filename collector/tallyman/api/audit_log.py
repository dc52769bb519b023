"""`/api/v1/audit-log`: what was changed in the caller's namespace, by whom, and what it was before."""

import re
from datetime import datetime
from typing import Any, Final

from aiohttp import web

from tallyman.api.parameters import Condition, ListParameters
from tallyman.api.route import JSON, Answered, Route
from tallyman.api.state import CALLER, DATABASE
from tallyman.api.wire import ULID_PATTERN, Answer, Time, Ulid
from tallyman.domain.access import Scope
from tallyman.errors import InvalidInput, InvalidParameter
from tallyman.store.audit_pages import AuditLine, AuditPages, TimeComparison
from tallyman.store.comparison import Comparison

LIST: Final = ListParameters(
    texts=("actor", "action"),
    exact=("resource_type", "resource_id"),
    times=("at",),
    sortable=("at",),
    descending=True,
    pages="cursor",
)
_COLUMNS: Final = {"resource_type": "entity", "resource_id": "entity_id"}


class AuditActor(Answer):
    """Who it was: an API key's id and name, or a command, a job or Stripe."""

    id: str
    name: str | None = None


class AuditResource(Answer):
    """What was changed."""

    type: str
    id: str


class AuditLineAnswer(Answer):
    """One change; without `before` it was made, without `after` it is no more."""

    id: Ulid
    at: Time
    actor: AuditActor
    action: str
    resource: AuditResource
    before: dict[str, Any] | None = None
    after: dict[str, Any] | None = None


class AuditCursor(Answer):
    """Where the next page begins, if there is one."""

    size: int
    next: str | None = None


class AuditMeta(Answer):
    """About the page."""

    page: AuditCursor


class AuditPage(Answer):
    """A page of changes."""

    data: list[AuditLineAnswer]
    meta: AuditMeta


async def list_(request: web.Request) -> web.Response:
    """One page of the changes, the newest first."""
    asked = LIST.read(request)
    if asked.after is not None and re.fullmatch(ULID_PATTERN, asked.after) is None:
        reason = "is no `next` of a page of this list"
        raise InvalidInput(
            f"page[after] {reason}", [InvalidParameter("page[after]", "invalid", reason, "query")]
        )
    found = await AuditPages(request.app[DATABASE]).page(
        request[CALLER].namespace,
        [_comparison(one) for one in asked.conditions],
        descending=asked.descending,
        size=asked.size + 1,
        after=asked.after,
    )
    lines = found[: asked.size]
    more = lines[-1].id if len(found) > asked.size else None
    page = AuditPage(
        data=[_answer(one) for one in lines],
        meta=AuditMeta(page=AuditCursor(size=asked.size, next=more)),
    )
    return web.Response(body=page.to_json(), content_type=JSON)


def _comparison(one: Condition) -> Comparison | TimeComparison:
    [value, *_] = one.values
    if isinstance(value, datetime):
        return TimeComparison(one.operator, value)
    column = _COLUMNS.get(one.field, one.field)
    return Comparison(column, one.operator, tuple(map(str, one.values)))


def _answer(line: AuditLine) -> AuditLineAnswer:
    return AuditLineAnswer(
        id=line.id,
        at=line.at,
        actor=AuditActor(id=line.actor, name=line.actor_name or None),
        action=line.action,
        resource=AuditResource(type=line.entity, id=line.entity_id),
        before=line.before,
        after=line.after,
    )


ROUTES: Final = (
    Route(
        "GET", "/api/v1/audit-log", list_, Scope.ADMIN,
        "list-audit-log", "List what was changed, by whom",
        Answered(200, "A page of changes.", {JSON: AuditPage}),
        "Secrets are not in it.",
        parameters=LIST, openmeter=False,
    ),
)  # fmt: skip
