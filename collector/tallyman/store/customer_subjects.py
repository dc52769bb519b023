"""Whose usage a subject's is, and was: the claims of customers on subjects, and their times.

The customers are `customers.py`'s. A subject is claimed by one customer at a time. A claim reaches
back to where the one before it ended, or to the beginning, so that usage which came before the
mapping was made counts; and what was used under a claim stays that customer's when it is released.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import and_, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection
from ulid import ULID

from tallyman.domain.customer import Customer, SubjectSpan
from tallyman.errors import Conflict, InvalidParameter
from tallyman.store.tables import customer_subjects, customers

AT_ONCE = 500  # values of one IN: SQLite takes no more than some thousand parameters


def portions(values: Iterable[str]) -> Iterator[list[str]]:
    """The different values, as many at a time as one statement takes."""
    wanted = sorted(set(values))
    for start in range(0, len(wanted), AT_ONCE):
        yield wanted[start : start + AT_ONCE]


@dataclass(frozen=True)
class _Claim:
    owner: str | None  # the key of the customer that has it now
    released_at: datetime | None  # when it was last free


async def claim(
    connection: AsyncConnection, wanted: Customer, had: Collection[str], now: datetime
) -> None:
    """Give the customer these subjects and no others.

    Raises:
        Conflict: another customer has one; names the subject, the field and that customer.
    """
    released = sorted(set(had) - set(wanted.subject_keys))
    await release(connection, wanted.id, now, released)
    new = [subject for subject in wanted.subject_keys if subject not in had]
    claims = await _claims(connection, wanted.namespace, new)
    for index, subject in enumerate(wanted.subject_keys):
        if subject in claims and (owner := claims[subject].owner) is not None:
            field = f"usage_attribution.subject_keys[{index}]"
            reason = f"is taken: the subject {subject} belongs to the customer {owner}"
            raise Conflict(f"{field} {reason}", [InvalidParameter(field, "invalid", reason)])
    rows = [
        {
            "id": str(ULID()),
            "namespace": wanted.namespace,
            "customer_id": wanted.id,
            "subject": subject,
            "position": position,
            "effective_from": claims[subject].released_at if subject in claims else None,
            "claimed_at": now,
            "released_at": None,
        }
        for position, subject in enumerate(wanted.subject_keys)
        if subject not in had
    ]
    if rows:
        await connection.execute(customer_subjects.insert(), rows)
    kept = [subject for subject in had if subject in wanted.subject_keys]
    if tuple(kept) != wanted.subject_keys[: len(kept)]:
        await _put_in_order(connection, wanted)


async def release(
    connection: AsyncConnection,
    customer_id: str,
    now: datetime,
    subjects: Collection[str] | None = None,
) -> None:
    """Free these subjects of the customer, or all; what was used before `now` stays its own."""
    mine = and_(
        customer_subjects.c.customer_id == customer_id, customer_subjects.c.released_at.is_(None)
    )
    if subjects is None:
        await connection.execute(update(customer_subjects).where(mine).values(released_at=now))
        return
    for some in portions(subjects):
        which = and_(mine, customer_subjects.c.subject.in_(some))
        await connection.execute(update(customer_subjects).where(which).values(released_at=now))


async def current_subjects(
    connection: AsyncConnection, customer_ids: Iterable[str]
) -> dict[str, tuple[str, ...]]:
    """The subjects of each customer in their order; a deleted one's are those that it had."""
    found: dict[str, list[str]] = defaultdict(list)
    for some in portions(customer_ids):
        rows = await connection.execute(
            select(customer_subjects.c.customer_id, customer_subjects.c.subject)
            .join(customers, customers.c.id == customer_subjects.c.customer_id)
            .where(
                customer_subjects.c.customer_id.in_(some),
                or_(
                    customer_subjects.c.released_at.is_(None),
                    customer_subjects.c.released_at == customers.c.deleted_at,
                ),
            )
            .order_by(customer_subjects.c.position, customer_subjects.c.claimed_at)
        )
        for row in rows:
            found[row.customer_id].append(row.subject)
    return {customer_id: tuple(subjects) for customer_id, subjects in found.items()}


async def spans_of(
    connection: AsyncConnection, customer_ids: Iterable[str], as_of: datetime | None
) -> dict[str, tuple[SubjectSpan, ...]]:
    """What each customer pays for, now or as it was known at `as_of`; by subject and time."""
    found: dict[str, list[SubjectSpan]] = defaultdict(list)
    table = customer_subjects.c
    known = [] if as_of is None else [table.claimed_at <= as_of]
    for some in portions(customer_ids):
        rows = await connection.execute(
            select(table.customer_id, table.subject, table.effective_from, table.released_at)
            .where(table.customer_id.in_(some), *known)
            .order_by(table.subject, table.claimed_at, table.id)
        )
        for customer_id, subject, from_, released_at in rows:
            to = released_at
            if as_of is not None and to is not None and to > as_of:
                to = None
            found[customer_id].append(SubjectSpan(subject, from_, to))
    return {customer_id: _joined(spans) for customer_id, spans in found.items()}


async def last_claims_of(
    connection: AsyncConnection, customer_ids: Iterable[str]
) -> dict[str, datetime]:
    """When each customer was last given a subject, and with it what that had used before."""
    found: dict[str, datetime] = {}
    table = customer_subjects.c
    for some in portions(customer_ids):
        rows = await connection.execute(
            select(table.customer_id, func.max(table.claimed_at))
            .where(table.customer_id.in_(some))
            .group_by(table.customer_id)
        )
        found |= {row[0]: row[1] for row in rows}
    return found


async def owners_of(
    connection: AsyncConnection, namespace: str, subjects: Iterable[str]
) -> list[tuple[str, SubjectSpan]]:
    """Whose usage of these subjects is and was, as (customer id, span), in any order."""
    found: list[tuple[str, SubjectSpan]] = []
    table = customer_subjects.c
    for some in portions(subjects):
        rows = await connection.execute(
            select(table.customer_id, table.subject, table.effective_from, table.released_at).where(
                table.namespace == namespace, table.subject.in_(some)
            )
        )
        found += [(row[0], SubjectSpan(row[1], row[2], row[3])) for row in rows]
    return found


def _joined(spans: Iterable[SubjectSpan]) -> tuple[SubjectSpan, ...]:
    """The same times in as few spans as can be; empty ones are left out."""
    joined: list[SubjectSpan] = []
    for span in spans:
        if span.from_ is not None and span.from_ == span.to:
            continue
        last = joined[-1] if joined else None
        if last and last.subject == span.subject and last.to is not None and last.to == span.from_:
            joined[-1] = SubjectSpan(span.subject, last.from_, span.to)
        else:
            joined.append(span)
    return tuple(joined)


async def _claims(
    connection: AsyncConnection, namespace: str, subjects: Iterable[str]
) -> dict[str, _Claim]:
    """Who has each subject, or when it was last free; what nobody ever had is absent.

    Postgres waits here for whoever is about to release one.
    """
    owners: dict[str, str | None] = {}
    freed: dict[str, datetime | None] = {}
    table = customer_subjects.c
    for some in portions(subjects):
        rows = await connection.execute(
            select(table.subject, table.released_at, customers.c.key)
            .join(customers, customers.c.id == table.customer_id)
            .where(table.namespace == namespace, table.subject.in_(some))
            .with_for_update(of=customer_subjects)
        )
        for subject, released_at, key in rows:
            owners.setdefault(subject, None)
            if released_at is None:
                owners[subject] = key
            elif (before := freed.get(subject)) is None or before < released_at:
                freed[subject] = released_at
    return {subject: _Claim(owner, freed.get(subject)) for subject, owner in owners.items()}


async def _put_in_order(connection: AsyncConnection, wanted: Customer) -> None:
    for position, subject in enumerate(wanted.subject_keys):
        await connection.execute(
            update(customer_subjects)
            .where(
                customer_subjects.c.customer_id == wanted.id,
                customer_subjects.c.subject == subject,
                customer_subjects.c.released_at.is_(None),
            )
            .values(position=position)
        )


async def count_claimed(connection: AsyncConnection, namespace: str) -> int:
    """How many subjects of the namespace have a customer."""
    statement = select(func.count()).where(
        customer_subjects.c.namespace == namespace, customer_subjects.c.released_at.is_(None)
    )
    return int((await connection.execute(statement)).scalar_one())
