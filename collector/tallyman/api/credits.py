"""`/customers/{id}/credits`: grants, what is left of them, and the ledger of what became of them.

What credit pays for is billing's.
"""

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from aiohttp import web
from ulid import ULID

from tallyman.api import parameters
from tallyman.api.credit_answers import (
    CreditAdjustmentAnswer,
    CreditBalanceAnswer,
    CreditBalancesAnswer,
    CreditGrantAnswer,
    CreditGrantPage,
    CreditTransactionAnswer,
)
from tallyman.api.credit_bodies import (
    CreateCreditAdjustmentRequest,
    CreateCreditGrantRequest,
    CreditSettlementRequest,
    VoidCreditGrantRequest,
)
from tallyman.api.credit_parameters import BalanceParameters
from tallyman.api.customers import find, path_text
from tallyman.api.numbered_page import PaginatedMeta
from tallyman.api.parameters import Condition, ListParameters
from tallyman.api.request_body import read_body
from tallyman.api.route import JSON
from tallyman.api.state import BOOKS, CALLER, CREDIT_WATCH, DATABASE, NOW, SETTINGS
from tallyman.api.wire import Answer
from tallyman.billing.credit_balance import balances
from tallyman.domain.credit import (
    CreditGrant,
    FundingMethod,
    GrantKind,
    GrantStatus,
    SettlementStatus,
)
from tallyman.errors import Conflict, Gone, InvalidInput, InvalidParameter, NotFound
from tallyman.store.comparison import Comparison
from tallyman.store.credit_top_ups import CreditTopUpStore

LIST: Final = ListParameters(
    texts=("key",),
    exact=("status", "currency"),
    sortable=("created_at",),
    descending=False,
    pages="numbered",
)
TRANSACTIONS: Final = ListParameters(
    texts=(),
    exact=("type", "currency", "feature_key"),
    sortable=("booked_at",),
    descending=True,
    pages="cursor",
)
BALANCE: Final = BalanceParameters()
STATUSES: Final = tuple(map(str, GrantStatus))
TYPES: Final = ("funded", "consumed", "expired", "voided")


async def create(request: web.Request) -> web.Response:
    """Grant credit."""
    parameters.refuse_any(request)
    body = await read_body(request, CreateCreditGrantRequest)
    customer, caller, now = await find(request), request[CALLER], request[NOW]
    grant = body.grant(str(ULID()), caller.namespace, customer.id, now)
    await _refuse_unknown_features(request, grant.features)
    made = await request.app[BOOKS].credits.create(grant, now, by=caller.actor)
    await _look(request, customer.id)
    return _answer(CreditGrantAnswer.of(made, now), status=201)


async def list_(request: web.Request) -> web.Response:
    """One page of the customer's grants."""
    asked = LIST.read(request)
    customer, now = await find(request), request[NOW]
    grants, total = await request.app[BOOKS].credits.page(
        customer.id,
        [
            Comparison(one.field, one.operator, tuple(map(str, one.values)))
            for one in asked.conditions
            if one.field != "status"
        ],
        _wanted(asked.conditions, "status", STATUSES),
        now=now,
        descending=asked.descending,
        offset=asked.offset,
        limit=asked.size,
    )
    meta = PaginatedMeta.of(asked, total)
    data = [CreditGrantAnswer.of(one, now) for one in grants]
    return _answer(CreditGrantPage(data=data, meta=meta))


async def get(request: web.Request) -> web.Response:
    """One grant."""
    parameters.refuse_any(request)
    customer = await find(request)
    found = await request.app[BOOKS].credits.get(
        customer.namespace, customer.id, path_text(request, "creditGrantId")
    )
    return _answer(CreditGrantAnswer.of(found, request[NOW]))


async def void(request: web.Request) -> web.Response:
    """Take what is left of a grant out of use."""
    parameters.refuse_any(request)
    if request.can_read_body:
        await read_body(request, VoidCreditGrantRequest)
    customer, caller, now = await find(request), request[CALLER], request[NOW]
    grant_id = path_text(request, "creditGrantId")
    credits = request.app[BOOKS].credits
    found = await credits.get(caller.namespace, customer.id, grant_id)
    if found.kind is GrantKind.TOP_UP and found.waits_for_payment and found.voided_at is None:
        await CreditTopUpStore(request.app[DATABASE]).cancel(found, now, by=caller.actor)
        return _answer(CreditGrantAnswer.of(found, now))
    voided = await credits.void(caller.namespace, customer.id, grant_id, now, by=caller.actor)
    await _look(request, customer.id)
    return _answer(CreditGrantAnswer.of(voided, now))


async def settle(request: web.Request) -> web.Response:
    """Take down how far the payment for a grant is, which is collected elsewhere."""
    parameters.refuse_any(request)
    body = await read_body(request, CreditSettlementRequest)
    customer, caller, now = await find(request), request[CALLER], request[NOW]
    credits, grant_id = request.app[BOOKS].credits, path_text(request, "creditGrantId")
    found = await credits.get(caller.namespace, customer.id, grant_id)
    _refuse_other_funding(found)
    settled = await credits.settle(
        caller.namespace, customer.id, grant_id, SettlementStatus(body.status), now,
        by=caller.actor,
    )  # fmt: skip
    return _answer(CreditGrantAnswer.of(settled, now))


async def balance(request: web.Request) -> web.Response:
    """What the customer has left, in each currency."""
    asked = BALANCE.read(request)
    customer, now = await find(request), request[NOW]
    if asked.at is not None and asked.at > now:
        reason = "must not be to come"
        parameter = InvalidParameter("timestamp", "max", reason, "query")
        raise InvalidInput(f"timestamp {reason}", [parameter])
    found = await balances(
        request.app[BOOKS], customer.namespace, customer.id, now, asked.at, asked.feature_key
    )
    return _answer(
        CreditBalancesAnswer(
            retrieved_at=asked.at or now,
            balances=[CreditBalanceAnswer.of(x) for x in found if asked.wants(x.currency)],
        )
    )


async def list_transactions(request: web.Request) -> web.Response:
    """One page of the customer's ledger, the newest first."""
    asked = TRANSACTIONS.read(request)
    if not asked.descending:
        raise _wrong("sort", "enum", "must be booked_at desc")
    customer, books = await find(request), request.app[BOOKS]
    after = None
    if asked.after is not None:
        if not (asked.after.isascii() and asked.after.isdigit() and len(asked.after) < 10):
            raise _wrong("page[after]", "invalid", "is no cursor of this list")
        after = int(asked.after)
    grants = await books.credits.left([customer.id])
    keys = _values(asked.conditions, "feature_key")
    rows = await books.ledger.page(
        customer.id,
        types=_wanted(asked.conditions, "type", TYPES),
        currencies=_wanted(
            asked.conditions, "currency", sorted({one.grant.currency for one in grants}), any_=True
        ),
        grant_ids=None
        if keys is None
        else [one.grant.id for one in grants if any(one.grant.is_for(key) for key in keys)],
        after=after,
        limit=asked.size,
    )
    meta = {
        "size": asked.size,
        "next": str(rows[-1].sequence) if len(rows) == asked.size else None,
        "previous": None,
        "first": str(rows[0].sequence) if rows else None,
        "last": str(rows[-1].sequence) if rows else None,
    }
    data = [
        CreditTransactionAnswer.of(row).model_dump(mode="json", exclude_none=True) for row in rows
    ]
    answer = {"data": data, "meta": {"page": meta}}
    return web.Response(body=msgspec.json.encode(answer), content_type=JSON)


async def adjust(request: web.Request) -> web.Response:
    """Give or take credit."""
    parameters.refuse_any(request)
    body = await read_body(request, CreateCreditAdjustmentRequest)
    customer, caller, now = await find(request), request[CALLER], request[NOW]
    adjustment = body.grant(str(ULID()), caller.namespace, customer.id, now)
    await request.app[BOOKS].credits.adjust(adjustment, now, by=caller.actor)
    await _look(request, customer.id)
    answer = CreditAdjustmentAnswer(
        name=body.name, description=body.description, labels=body.labels or None
    )
    return _answer(answer, status=201)


async def _look(request: web.Request, customer_id: str) -> None:
    """Let what may be used follow what was changed."""
    if request.app[SETTINGS].credit_interval_seconds:
        await request.app[CREDIT_WATCH].look(request[CALLER].namespace, [customer_id])


async def _refuse_unknown_features(request: web.Request, keys: Sequence[str]) -> None:
    for at, key in enumerate(keys):
        try:
            found = await request.app[BOOKS].features.get(request[CALLER].namespace, key)
        except (NotFound, Gone):
            found = None
        if found is None or found.key != key:
            field, reason = f"filters.features[{at}]", f"is the key of no feature: {key}"
            parameter = InvalidParameter(field, "missing_reference", reason)
            raise InvalidInput(f"{field} {reason}", [parameter])


def _refuse_other_funding(grant: CreditGrant) -> None:
    if grant.funding_method is not FundingMethod.EXTERNAL or grant.purchase is None:
        raise Conflict("only a grant with external funding is settled so")
    if grant.purchase.waits_for_payment:
        raise Conflict("a top-up is settled by its payment alone")


def _wanted(
    conditions: Sequence[Condition], field: str, known: Sequence[str], *, any_: bool = False
) -> list[str] | None:
    """Those of the known values that every condition leaves; None if there is no condition."""
    mine = [one for one in conditions if one.field == field]
    if not mine:
        return None
    wanted = list(known)
    for one in mine:
        values = tuple(map(str, one.values))
        for value in values:
            if one.operator != "exists" and value not in known and not any_:
                reason = f"must be one of {', '.join(known)}"
                raise _wrong(f"filter[{field}]", "enum", reason, choices=list(known))
        match one.operator:
            case "eq" | "oeq":
                wanted = [value for value in wanted if value in values]
            case "neq":
                wanted = [value for value in wanted if value not in values]
            case _:
                wanted = wanted if values == ("true",) else []
    return wanted


def _values(conditions: Sequence[Condition], field: str) -> list[str] | None:
    mine = [one for one in conditions if one.field == field]
    if not mine:
        return None
    if any(one.operator not in ("eq", "oeq") for one in mine):
        raise _wrong(f"filter[{field}]", "enum", "must be eq or oeq", choices=["eq", "oeq"])
    return [str(value) for one in mine for value in one.values]


def _wrong(name: str, rule: str, reason: str, **extra: Any) -> InvalidInput:
    parameter = InvalidParameter(name, rule, reason, "query", extra)
    return InvalidInput(f"{name} {reason}", [parameter])


def _answer(body: Answer, status: int = 200) -> web.Response:
    return web.Response(status=status, body=body.to_json(), content_type=JSON)
