"""Bills a data directory, and kills itself before or after the nth durable step.

`python -m tests.integration.billing.billing_until_killed DIRECTORY stock|before|after N`
"""

import asyncio
import os
import signal
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

from tallyman import app
from tallyman.billing import run as billing_run
from tallyman.config import Settings

from tests.rigs.shop import COLLECTED, DECEMBER, NOVEMBER, Shop

CUSTOMERS = 12
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


async def main(directory: Path, when: str, number: int) -> None:
    settings = Settings(data_dir=directory)
    clickhouse, database = app.open_clickhouse(settings), app.open_database(settings)
    await database.migrate()
    shop = Shop(database, clickhouse, "default")
    await shop.events.migrate()
    if when == "stock":
        await stock(shop)
    else:
        counted, invoices = [0], shop.books.invoices
        invoices.add = killing(invoices.add, when, number, counted)  # type: ignore[method-assign]
        invoices.replace = killing(invoices.replace, when, number, counted)  # type: ignore[method-assign]
        await shop.bill(DECEMBER)
        await shop.bill(DECEMBER + COLLECTED)
    await database.close()
    await clickhouse.close()


async def stock(shop: Shop) -> None:
    await shop.plan(await shop.card())
    for at in range(CUSTOMERS):
        await shop.customer(f"c{at}")
        await shop.subscribe(f"c{at}")
        await shop.use(500_000 * (at + 1), NOVEMBER + timedelta(days=1), f"c{at}")


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
