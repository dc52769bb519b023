"""What models cost, as it is kept: the prices of lists, and overrides.

Which of them holds for a call is `domain/price_book.py`'s; how a list is imported, `price_changes.py`'s.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from functools import cache
from importlib import resources
from typing import Any, Final

from sqlalchemy import Row, and_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection
from ulid import ULID

from tallyman.domain.access import LOCAL
from tallyman.domain.content_id import content_id
from tallyman.domain.llm_price import LlmPrice, OfferedPrice
from tallyman.domain.period import EPOCH
from tallyman.domain.price_book import PriceBook
from tallyman.domain.price_list import PriceList, read_price_list
from tallyman.errors import Conflict, Gone, NotFound
from tallyman.store.audit import record
from tallyman.store.comparison import Comparison, condition_of
from tallyman.store.database import Database, upsert
from tallyman.store.llm_price_rows import price_of, price_values
from tallyman.store.numbered_page import in_order, rows_of_page
from tallyman.store.tables import llm_prices

FILTERED: Final = ("provider", "model_id", "model_name", "currency", "source")
SORTABLE: Final = ("provider", "model_id", "effective_from", "created_at", "updated_at")
OVERRIDE: Final = "override"
_COLUMN: Final = {"provider": "provider_id"}


@cache
def built_in_list() -> PriceList:
    """The newest of the lists that this version brings along."""
    folder = resources.files("tallyman") / "prices"
    newest = max((one for one in folder.iterdir() if one.name.endswith(".json")), key=_name)
    return read_price_list(newest.read_text(encoding="utf-8"))


def _name(file: Any) -> str:
    return str(file.name)


class LlmPriceStore:
    """The prices of every namespace."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._complete: set[str] = set()

    async def add_built_in(self, namespace: str, now: datetime) -> None:
        """Give a namespace that has no list yet the one that this version brings; once in a process.

        A newer version's is not put in force by itself: it is imported like any other.
        """
        if namespace in self._complete:
            return
        any_list = select(llm_prices.c.id).where(
            llm_prices.c.namespace == namespace, llm_prices.c.source == "system"
        )
        async with self.database.reading() as connection:
            there = (await connection.execute(any_list.limit(1))).first()
        if there is None:
            async with self.database.writing() as connection:
                offer = built_in_list()
                made = [listed(namespace, one, offer.origin, now, EPOCH) for one in offer.offered]
                ids = [
                    content_id(x.effective_from, namespace, x.origin, x.provider, x.model)
                    for x in made
                ]
                rows = [
                    price_values(replace(one, id=id_)) for one, id_ in zip(made, ids, strict=True)
                ]
                await connection.execute(
                    upsert(connection, llm_prices).on_conflict_do_nothing(), rows
                )
        self._complete.add(namespace)

    async def every(self, namespace: str, now: datetime) -> list[LlmPrice]:
        """Every price, of whatever time, but overrides that were deleted."""
        await self.add_built_in(namespace, now)
        async with self.database.reading() as connection:
            return await _every(connection, namespace)

    async def book(self, namespace: str, now: datetime) -> PriceBook:
        """The prices, to find those of calls."""
        return PriceBook(await self.every(namespace, now))

    async def page(
        self,
        namespace: str,
        where: Sequence[Comparison] = (),
        *,
        now: datetime,
        order_by: str = "provider",
        descending: bool = False,
        offset: int = 0,
        limit: int = 20,
    ) -> tuple[list[LlmPrice], int]:
        """One page, and how many there are on all pages."""
        await self.add_built_in(namespace, now)
        table = llm_prices.c
        wanted = and_(
            table.namespace == namespace,
            table.deleted_at.is_(None),
            *(condition_of(table[_COLUMN.get(one.column, one.column)], one) for one in where),
        )
        first = table[_COLUMN.get(order_by, order_by)]
        order = in_order(
            first, table.model_id, table.effective_from, table.id, descending=descending
        )
        async with self.database.reading() as connection:
            rows, total = await rows_of_page(connection, llm_prices, wanted, order, offset, limit)
            return [price_of(row) for row in rows], total

    async def get(self, namespace: str, price_id: str, now: datetime) -> LlmPrice:
        """The price with this id.

        Raises:
            NotFound: there is none.
            Gone: it was an override, and deleted.
        """
        await self.add_built_in(namespace, now)
        async with self.database.reading() as connection:
            return price_of(await find_price(connection, namespace, price_id))

    async def create_override(self, price: LlmPrice, *, by: str = LOCAL) -> LlmPrice:
        """Keep an override, under a new id.

        Raises:
            Conflict: another of the model begins at the same time.
        """
        made = replace(price, id=str(ULID()), source="manual", origin=OVERRIDE)
        async with self.database.writing() as connection:
            same = await connection.execute(
                select(llm_prices.c.id).where(
                    llm_prices.c.namespace == made.namespace,
                    llm_prices.c.source == "manual",
                    llm_prices.c.deleted_at.is_(None),
                    llm_prices.c.provider_id == made.provider,
                    llm_prices.c.model_id == made.model,
                    llm_prices.c.effective_from == made.effective_from,
                )
            )
            if found := same.first():
                raise Conflict(
                    f"the override {found.id} of {made.provider}/{made.model} begins at the same time"
                )
            await connection.execute(llm_prices.insert().values(price_values(made)))
            row = await find_price(connection, made.namespace, made.id)
            await record(connection, by, "created", "llm_price", None, row)
            return price_of(row)

    async def delete_override(
        self, namespace: str, price_id: str, now: datetime, *, by: str = LOCAL
    ) -> None:
        """Take an override back, as if it had never been.

        Raises:
            NotFound: there is none with this id, or it is a list's price.
            Gone: it was deleted before.
        """
        async with self.database.writing() as connection:
            row = await find_price(connection, namespace, price_id)
            if row.source != "manual":
                raise NotFound(f"the price {price_id} is a list's, and no override")
            await connection.execute(
                update(llm_prices)
                .where(llm_prices.c.id == row.id)
                .values(deleted_at=now, updated_at=now)
            )
            await record(connection, by, "deleted", "llm_price", row, None)


async def add_price(connection: AsyncConnection, price: LlmPrice, by: str) -> None:
    """Keep a list's price."""
    await connection.execute(llm_prices.insert().values(price_values(price)))
    row = await find_price(connection, price.namespace, price.id)
    await record(connection, by, "created", "llm_price", None, row)


def listed(
    namespace: str, offered: OfferedPrice, origin: str, now: datetime, since: datetime
) -> LlmPrice:
    """The price as a list has it, from the list's own date on, if it says one."""
    return LlmPrice(
        id=str(ULID()),
        namespace=namespace,
        provider=offered.provider,
        model=offered.model,
        pricing=offered.pricing,
        currency=offered.currency,
        source="system",
        origin=origin,
        effective_from=offered.effective_from or since,
        effective_to=offered.effective_to,
        created_at=now,
        updated_at=now,
        provider_name=offered.provider_name,
        model_name=offered.model_name,
    )


async def _every(connection: AsyncConnection, namespace: str) -> list[LlmPrice]:
    rows = await connection.execute(
        select(llm_prices).where(
            llm_prices.c.namespace == namespace, llm_prices.c.deleted_at.is_(None)
        )
    )
    return [price_of(row) for row in rows]


async def find_price(connection: AsyncConnection, namespace: str, price_id: str) -> Row[Any]:
    """The row of a price.

    Raises:
        NotFound: there is none.
        Gone: it was an override, and deleted.
    """
    statement = select(llm_prices).where(
        llm_prices.c.namespace == namespace, llm_prices.c.id == price_id
    )
    row = (await connection.execute(statement)).one_or_none()
    if row is None:
        raise NotFound(f"no price has the id {price_id}")
    if row.deleted_at is not None:
        raise Gone(f"the price {price_id} was deleted")
    return row


def overriding(
    namespace: str, offered: OfferedPrice, since: datetime | None, now: datetime
) -> LlmPrice:
    """The price as an override, from `since` on, or else from the list's own date, or now."""
    price = listed(namespace, offered, OVERRIDE, now, now)
    begins = since or price.effective_from
    return replace(price, source="manual", effective_from=begins)
