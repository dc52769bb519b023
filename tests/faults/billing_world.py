"""A month of a few customers, billed before it is collected and when it is, to be killed anywhere.

Every transaction that writes is a durable step, which has the name of the store's method that began it. Of the
event store billing only reads: CLICKHOUSE is the URL of one that lives on.

`python -m tests.faults.billing_world FOLDER SEED` takes faults on standard input.
"""

import os
import sys
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from decimal import Decimal as D
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from sqlalchemy.ext.asyncio import AsyncConnection
from tallyman import connections
from tallyman.billing import run as billing_run
from tallyman.config import Settings
from tallyman.domain.credit import CreditGrant
from tallyman.domain.customer import Customer
from tallyman.store.database import Database
from tallyman_kong import durable_step
from ulid import ULID

from tests.faults.forked import serve
from tests.rigs.shop import COLLECTED, DECEMBER, NOVEMBER, Shop

CUSTOMERS = 3
VISITOR = "visitor"  # has credit, and no subscription
billing_run.INVOICES_AT_ONCE = 2  # type: ignore[misc]  # so that there are steps to be killed between
writing = Database.writing


@asynccontextmanager
async def stepped(database: Database, name: str) -> AsyncIterator[AsyncConnection]:
    """The transaction with a step around its commit."""
    async with writing(database) as connection:
        yield connection
        durable_step._pass("before", name)
    durable_step._pass("after", name)


def named(database: Database) -> AbstractAsyncContextManager[AsyncConnection]:
    return stepped(database, sys._getframe(1).f_code.co_qualname)


def opened(folder: Path) -> Shop:
    settings = Settings(data_dir=folder, clickhouse_url=SecretStr(os.environ["CLICKHOUSE"]))
    database = connections.open_database(settings)
    return Shop(database, connections.open_clickhouse(settings), folder.parent.name)


async def prepare(folder: Path, _seed: int) -> dict[str, Any]:
    """Customers who used tokens for a dollar, for two dollars, and so on."""
    shop = opened(folder)
    await shop.database.migrate()
    await shop.events.migrate()
    await shop.plan(await shop.card())
    for at in range(1, CUSTOMERS + 1):
        customer = await shop.customer(f"c{at}")
        await shop.books.credits.create(half(customer), NOVEMBER)
        await shop.subscribe(f"c{at}")
        await shop.use(500_000 * at, NOVEMBER + timedelta(days=1), f"c{at}")
        if at == 1:  # whose other half is used up, and over
            await shop.books.credits.create(half(customer, of_days=1), NOVEMBER)
    await shop.books.credits.create(half(await shop.customer(VISITOR)), NOVEMBER)
    await shop.database.close()
    await shop.clickhouse.close()
    return {}


def half(customer: Customer, of_days: int | None = None) -> CreditGrant:
    """Half a dollar, a day later, for good or for so many days."""
    begins = NOVEMBER + timedelta(days=1)
    return CreditGrant(
        id=str(ULID()),
        namespace=customer.namespace,
        customer_id=customer.id,
        currency="USD",
        amount=D("0.50"),
        name="Half a dollar",
        effective_at=begins,
        expires_at=None if of_days is None else begins + timedelta(days=of_days),
        created_at=NOVEMBER,
        updated_at=NOVEMBER,
    )


async def live(folder: Path, _seed: int) -> dict[str, Any]:
    """Both runs, and what has become of every customer."""
    Database.writing = named  # type: ignore[method-assign, assignment]
    shop = opened(folder)
    await shop.bill(DECEMBER)
    await shop.bill(DECEMBER + COLLECTED)
    customers = await shop.books.customers.with_ids(
        shop.namespace, (await shop.books.credits.customers())[shop.namespace]
    )
    found = {
        "invoices": sorted(
            (one.customer.key, str(one.state), str(one.totals.amount), str(one.totals.credits))
            for one in await shop.invoices()
        ),
        "numbers": sorted(one.number for one in await shop.invoices()),
        "ledger": {
            one.key: [str(x.amount) for x in await shop.books.ledger.page(one.id)]
            for one in customers
        },
    }
    await shop.database.close()
    await shop.clickhouse.close()
    return found


if __name__ == "__main__":
    serve(prepare, live)
