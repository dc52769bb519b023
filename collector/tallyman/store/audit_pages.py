"""The audit log as it is read: a page at a time, by what was changed, by whom, and when.

What is written is `audit.py`'s.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, select

from tallyman.store.comparison import Comparison, condition_of
from tallyman.store.database import Database
from tallyman.store.tables import api_keys, audit_log


@dataclass(frozen=True)
class AuditLine:
    """One change, with the name that the key of its actor has, if it is a key."""

    id: str
    namespace: str
    at: datetime
    actor: str
    actor_name: str | None
    action: str
    entity: str
    entity_id: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None


@dataclass(frozen=True)
class TimeComparison:
    """A condition on when it was."""

    operator: str
    at: datetime


class AuditPages:
    """The changes in every namespace."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(
        self,
        namespace: str,
        where: Sequence[Comparison | TimeComparison] = (),
        *,
        descending: bool = True,
        size: int = 20,
        after: str | None = None,
    ) -> list[AuditLine]:
        """Up to `size` changes, the newest first; after the one with the id given."""
        table = audit_log.c
        wanted = [table.namespace == namespace, *(_condition(one) for one in where)]
        if after is not None:
            wanted.append(table.id < after if descending else table.id > after)
        statement = (
            select(audit_log, api_keys.c.name.label("actor_name"))
            .outerjoin(api_keys, (api_keys.c.id == table.actor))
            .where(*wanted)
            .order_by(table.id.desc() if descending else table.id)
            .limit(size)
        )
        async with self._database.reading() as connection:
            return [_line(row) for row in await connection.execute(statement)]


def _condition(one: Comparison | TimeComparison) -> ColumnElement[bool]:
    if isinstance(one, Comparison):
        return condition_of(audit_log.c[one.column], one)
    at = audit_log.c.at
    match one.operator:
        case "eq":
            return at == one.at
        case "gt":
            return at > one.at
        case "gte":
            return at >= one.at
        case "lt":
            return at < one.at
        case "lte":
            return at <= one.at
    raise AssertionError(one.operator)


def _line(row: Row[Any]) -> AuditLine:
    return AuditLine(**row._mapping)
