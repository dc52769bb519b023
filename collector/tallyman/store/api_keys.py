"""API keys: made, looked up and revoked; only a digest is kept.

A key is 256 random bits, so SHA-256 without salt or stretching is enough: there is nothing to guess.
What a scope reaches is the route table's.
"""

import hashlib
import hmac
import secrets
import time
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

from sqlalchemy import Row, func, select, update
from ulid import ULID

from tallyman.domain.access import LOCAL, Caller, Scope
from tallyman.errors import NotFound
from tallyman.store.audit import record
from tallyman.store.database import Database
from tallyman.store.shared_answer import SharedAnswers
from tallyman.store.tables import api_keys

KEY_PREFIX: Final = "tm_"
RANDOM_BYTES: Final = 32
HINT_LENGTH: Final = 9
REMEMBERED_SECONDS: Final = 0.5  # so long may a key still work after its revocation
MOST_REMEMBERED: Final = 4096
# All but the digest.
_SHOWN: Final = select(*(column for column in api_keys.c if column.name != "sha256"))


@dataclass(frozen=True)
class ApiKey:
    """A key without its secret. `hint` is its beginning, to tell keys apart."""

    id: str
    namespace: str
    name: str
    hint: str
    scopes: frozenset[Scope]
    created_at: datetime
    revoked_at: datetime | None = None


class ApiKeyStore:
    """The keys of every namespace."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._remembered: OrderedDict[str, tuple[float, Caller]] = OrderedDict()
        self._looked_up: SharedAnswers[str, Caller | None] = SharedAnswers()

    async def create(
        self, namespace: str, name: str, scopes: Iterable[Scope]
    ) -> tuple[ApiKey, str]:
        """Make a key; the second of the pair is the secret, which cannot be had again."""
        secret = KEY_PREFIX + secrets.token_urlsafe(RANDOM_BYTES)
        key = ApiKey(
            id=str(ULID()),
            namespace=namespace,
            name=name,
            hint=secret[:HINT_LENGTH],
            scopes=frozenset(scopes),
            created_at=datetime.now(UTC),
        )
        async with self._database.writing() as connection:
            await connection.execute(
                api_keys.insert().values(
                    id=key.id,
                    namespace=namespace,
                    name=name,
                    hint=key.hint,
                    sha256=_digest(secret),
                    scopes=sorted(key.scopes),
                    created_at=key.created_at,
                )
            )
            made = await connection.execute(_SHOWN.where(api_keys.c.id == key.id))
            await record(connection, LOCAL, "created", "api_key", None, made.one())
        return key, secret

    async def caller(self, secret: str) -> Caller | None:
        """Whose key it is; None if it is not known or was revoked `REMEMBERED_SECONDS` ago."""
        digest = _digest(secret)
        until, caller = self._remembered.get(digest, (0.0, None))
        if caller is not None and time.monotonic() < until:
            return caller
        return await self._looked_up.ask(digest, partial(self._look_up, digest))

    async def _look_up(self, digest: str) -> Caller | None:
        until = time.monotonic() + REMEMBERED_SECONDS
        async with self._database.reading() as connection:
            result = await connection.execute(select(api_keys).where(api_keys.c.sha256 == digest))
            row = result.one_or_none()
        if row is None or not hmac.compare_digest(row.sha256, digest) or row.revoked_at is not None:
            self._remembered.pop(digest, None)
            return None
        key = _key(row)
        caller = Caller(key.namespace, key.scopes, key.id)
        self._remembered[digest] = (until, caller)
        self._remembered.move_to_end(digest)
        if len(self._remembered) > MOST_REMEMBERED:
            self._remembered.popitem(last=False)
        return caller

    async def list(self) -> list[ApiKey]:
        """Every key, revoked ones too, in the order in which they were made."""
        async with self._database.reading() as connection:
            rows = await connection.execute(select(api_keys).order_by(api_keys.c.id))
            return [_key(row) for row in rows]

    async def count(self, namespace: str | None = None) -> int:
        """How many keys were ever made, in all namespaces or in one."""
        made = select(func.count()).select_from(api_keys)
        if namespace is not None:
            made = made.where(api_keys.c.namespace == namespace)
        async with self._database.reading() as connection:
            return (await connection.execute(made)).scalar_one()

    async def revoke(self, key_id: str) -> ApiKey:
        """Let a key work no more; a second time changes nothing.

        Raises:
            NotFound: no key has this id.
        """
        by_id = _SHOWN.where(api_keys.c.id == key_id)
        async with self._database.writing() as connection:
            before = (await connection.execute(by_id)).one_or_none()
            if before is None:
                raise NotFound(f"no API key has the id {key_id}")
            if before.revoked_at is not None:
                return _key(before)
            await connection.execute(
                update(api_keys).where(api_keys.c.id == key_id).values(revoked_at=datetime.now(UTC))
            )
            row = (await connection.execute(by_id)).one()
            await record(connection, LOCAL, "revoked", "api_key", before, row)
        self._looked_up.forget()
        self._remembered.clear()
        return _key(row)


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _key(row: Row[Any]) -> ApiKey:
    return ApiKey(
        id=row.id,
        namespace=row.namespace,
        name=row.name,
        hint=row.hint,
        scopes=frozenset(Scope(scope) for scope in row.scopes),
        created_at=row.created_at,
        revoked_at=row.revoked_at,
    )
