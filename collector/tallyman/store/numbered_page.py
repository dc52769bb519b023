"""One numbered page of a list: in an order without ties, with how many rows there are on all pages.

Which rows a list has, and what is made of them, is each repository's.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Row, Table, func, select
from sqlalchemy.ext.asyncio import AsyncConnection


def in_order(*columns: ColumnElement[Any], descending: bool) -> list[ColumnElement[Any]]:
    """By the columns, all in one direction; the last breaks the ties of those before it."""
    return [column.desc() if descending else column.asc() for column in columns]


async def count_of(connection: AsyncConnection, table: Table, wanted: ColumnElement[bool]) -> int:
    """How many rows are wanted."""
    count = select(func.count()).select_from(table).where(wanted)
    return int((await connection.execute(count)).scalar_one())


async def rows_of_page(
    connection: AsyncConnection,
    table: Table,
    wanted: ColumnElement[bool],
    order: Sequence[ColumnElement[Any]],
    offset: int,
    limit: int | None,
) -> tuple[Sequence[Row[Any]], int]:
    """The rows of one page, and how many there are on all pages; without a limit all of them."""
    page = select(table).where(wanted).order_by(*order).offset(offset).limit(limit)
    total = await count_of(connection, table, wanted)
    return (await connection.execute(page)).all(), total
