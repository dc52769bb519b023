"""The audit log: every change of what is kept, with who made it and what was there before.

It does not change anything: each repository writes its line in the transaction of its change. How the
log is read is `audit_pages.py`'s.
"""

import os
import pwd
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final, Literal

from sqlalchemy import Row, select
from sqlalchemy.ext.asyncio import AsyncConnection
from ulid import ULID

from tallyman.domain.access import LOCAL
from tallyman.store.database import Database
from tallyman.store.tables import audit_log

MASK: Final = "***"
_SECRET: Final = frozenset({"secret", "sha256", "password", "webhook_secret", "client_secret"})
# What stands for LOCAL in the log, from `name_command` on.
_command: ContextVar[str] = ContextVar("command", default=LOCAL)

Entity = Literal[
    "event",
    "meter",
    "feature",
    "plan",
    "customer",
    "subscription",
    "entitlement",
    "profile",
    "invoice",
    "credit_note",
    "refund",
    "re_rating",
    "api_key",
    "credit_grant",
    "credit_top_up",
    "sandbox",
    "test_clock",
    "llm_price",
    "held_llm_price",
    "stripe_operation",
    "app",
]


@dataclass(frozen=True)
class AuditEntry:
    """One change. `actor` is an API key's id, `command:NAME:USER` for this machine's own commands,
    `job:billing`, or `stripe` for what its webhooks brought about.

    `before` is None for what was made, `after` for what is no more. In the log `at` is the real time
    of the change, whatever a sandbox's clock says.
    """

    namespace: str
    at: datetime
    actor: str
    action: str
    entity: Entity
    entity_id: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None


async def record(
    connection: AsyncConnection,
    by: str,
    action: str,
    entity: Entity,
    before: Row[Any] | None,
    after: Row[Any] | None,
) -> None:
    """Write a line about a row in the connection's transaction: both are kept, or neither.

    The row must have `id` and `namespace`; a row that is made has no `before`.
    """
    row = after if after is not None else before
    if row is None:
        raise ValueError("a change has a row before or after it")
    await record_document(
        connection,
        AuditEntry(
            namespace=row.namespace,
            at=datetime.now(UTC),
            actor=by,
            action=action,
            entity=entity,
            entity_id=row.id,
            before=None if before is None else dict(before._mapping),
            after=None if after is None else dict(after._mapping),
        ),
    )


async def record_document(connection: AsyncConnection, entry: AuditEntry) -> None:
    """Write a line about what is more than one row, in the connection's transaction."""
    await record_documents(connection, [entry])


async def record_documents(connection: AsyncConnection, entries: Sequence[AuditEntry]) -> None:
    """Write many lines in the connection's transaction."""
    now = datetime.now(UTC)
    rows = [
        vars(one)
        | {
            "id": str(ULID.from_datetime(now)),
            "at": now,
            "actor": current_command() if one.actor == LOCAL else one.actor,
            "before": _json(one.before),
            "after": _json(one.after),
        }
        for one in entries
    ]
    if rows:
        await connection.execute(audit_log.insert(), rows)


def name_command(name: str) -> str:
    """Say which command of this machine changes things from now on; gives its name as an actor."""
    actor = f"command:{name}:{_user()}"
    _command.set(actor)
    return actor


def current_command() -> str:
    """What stands for LOCAL in the log now."""
    return _command.get()


def _user() -> str:
    """The system's name of whoever runs this, whatever the environment says."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container's user may have none
        return f"uid {os.getuid()}"


class AuditLog:
    """What was changed."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def entries(self, namespace: str, entity: Entity, entity_id: str) -> list[AuditEntry]:
        """The changes of one thing, the first one first."""
        statement = (
            select(audit_log)
            .where(
                audit_log.c.namespace == namespace,
                audit_log.c.entity == entity,
                audit_log.c.entity_id == entity_id,
            )
            .order_by(audit_log.c.at, audit_log.c.id)
        )
        async with self._database.reading() as connection:
            return [_entry(row) for row in await connection.execute(statement)]


def _entry(row: Row[Any]) -> AuditEntry:
    values = dict(row._mapping)
    del values["id"]
    return AuditEntry(**values)


def _json(value: Any) -> Any:
    match value:
        case Mapping():
            return {
                str(name): MASK if name in _SECRET and member is not None else _json(member)
                for name, member in value.items()
            }
        case list() | tuple() | set() | frozenset():
            return [_json(member) for member in value]
        case datetime():
            return value.isoformat()
        case Decimal():
            return format(value, "f")
        case _:
            return value
