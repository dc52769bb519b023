"""Bills a data directory again and again, each time killed at the next durable step, until it is done.

`python -m tests.integration.billing.billing_until_killed DIRECTORY before|after` prints how each ended.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Coroutine
from datetime import timedelta
from decimal import Decimal as D
from pathlib import Path
from typing import Any

from tallyman import connections
from tallyman.billing import run as billing_run
from tallyman.config import Settings
from tallyman.domain.credit import CreditGrant
from tallyman.domain.customer import Customer
from ulid import ULID

from tests.rigs.shop import COLLECTED, DECEMBER, NOVEMBER, Shop

CUSTOMERS = 12
MOST_STEPS = 20
# Small portions, so that there are steps to be killed between.
billing_run.INVOICES_AT_ONCE = 5  # type: ignore[misc]


def killing(step: Any, when: str, number: int, counted: list[int]) -> Any:
    async def stepped(*args: Any, **kwargs: Any) -> Any:
        counted[0] += 1
        if when == "before" and counted[0] == number:
            os.kill(os.getpid(), signal.SIGKILL)
        done = await step(*args, **kwargs)
        if when == "after" and counted[0] == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return done

    return stepped


async def work(directory: Path, when: str, number: int) -> None:
    """Stock the shop if there is no number, else bill it and be killed at that step."""
    settings = Settings(data_dir=directory)
    clickhouse, database = (
        connections.open_clickhouse(settings),
        connections.open_database(settings),
    )
    shop = Shop(database, clickhouse, "default")
    if not number:
        await database.migrate()
        await shop.events.migrate()
        await stock(shop)
    else:
        counted, invoices = [0], shop.books.invoices
        invoices.add = killing(invoices.add, when, number, counted)  # type: ignore[method-assign]
        invoices.replace = killing(invoices.replace, when, number, counted)  # type: ignore[method-assign]
        credits = shop.books.credits
        credits.turn = killing(credits.turn, when, number, counted)  # type: ignore[method-assign]
        await shop.bill(DECEMBER)
        await shop.bill(DECEMBER + COLLECTED)
    await database.close()
    await clickhouse.close()


async def stock(shop: Shop) -> None:
    await shop.plan(await shop.card())
    for at in range(CUSTOMERS):
        customer = await shop.customer(f"c{at}")
        await shop.books.credits.create(half(customer), NOVEMBER)
        await shop.subscribe(f"c{at}")
        await shop.use(500_000 * (at + 1), NOVEMBER + timedelta(days=1), f"c{at}")


def half(customer: Customer) -> CreditGrant:
    """Half a dollar, a day later."""
    return CreditGrant(
        id=str(ULID()),
        namespace=customer.namespace,
        customer_id=customer.id,
        currency="USD",
        amount=D("0.50"),
        name="Half a dollar",
        effective_at=NOVEMBER + timedelta(days=1),
        created_at=NOVEMBER,
        updated_at=NOVEMBER,
    )


def in_a_process(running: Coroutine[Any, Any, None]) -> int:
    """Run it in a process of its own; nothing is open yet in this one, so it may fork."""
    child = os.fork()
    if not child:
        asyncio.run(running)
        os._exit(0)
    running.close()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main(directory: Path, when: str) -> None:
    for number in range(MOST_STEPS):
        end = in_a_process(work(directory, when, number))
        sys.stdout.write(f"{end}\n")
        sys.stdout.flush()  # before the next fork
        if number and not end:
            return


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
