"""How lists change the prices that are kept: what is imported, held, accepted and rejected.

What a list changes is decided by `domain/price_merge.py`.
"""

from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import Row, delete, select, update
from sqlalchemy.ext.asyncio import AsyncConnection
from ulid import ULID

from tallyman.domain.access import LOCAL
from tallyman.domain.llm_price import HeldPrice
from tallyman.domain.price_list import PriceList
from tallyman.domain.price_merge import Proposal, completed, propose
from tallyman.errors import Conflict, NotFound
from tallyman.store.audit import record
from tallyman.store.llm_price_rows import held_of, held_values, price_of
from tallyman.store.llm_prices import LlmPriceStore, add_price, find_price, listed
from tallyman.store.tables import held_llm_prices, llm_prices


class PriceChanges:
    """Imports of every namespace, and the decisions that they leave."""

    def __init__(self, prices: LlmPriceStore) -> None:
        self._database = prices.database
        self._prices = prices

    async def propose(self, namespace: str, offer: PriceList, now: datetime) -> list[Proposal]:
        """What the list would change."""
        prices = await self._prices.every(namespace, now)
        return propose(prices, await self.held(namespace), offer, now)

    async def put_in_force(
        self,
        namespace: str,
        offer: PriceList,
        now: datetime,
        since: datetime | None = None,
        *,
        by: str = LOCAL,
    ) -> list[Proposal]:
        """Do what `propose` says, all in one; changes hold from `since` on, or from now."""
        await self._prices.add_built_in(namespace, now)
        async with self._database.together():
            proposals = await self.propose(namespace, offer, now)
            async with self._database.writing() as connection:
                await _drop_held(connection, namespace, offer)
                for one in proposals:
                    await _carry_out(connection, namespace, one, now, since or now, by)
        return proposals

    async def held(self, namespace: str, state: str | None = None) -> list[HeldPrice]:
        """What waits, or waited, for a decision, the oldest first."""
        table = held_llm_prices.c
        wanted = [table.namespace == namespace]
        if state is not None:
            wanted.append(table.state == state)
        statement = select(held_llm_prices).where(*wanted).order_by(table.created_at, table.id)
        async with self._database.reading() as connection:
            return [held_of(row) for row in await connection.execute(statement)]

    async def decide(
        self,
        namespace: str,
        held_id: str,
        now: datetime,
        *,
        accept: bool,
        since: datetime | None = None,
        by: str = LOCAL,
    ) -> HeldPrice:
        """Put a held price in force from `since` on, or from now; or keep the one that is.

        Raises:
            NotFound: there is none.
            Conflict: it is decided already.
        """
        async with self._database.writing() as connection:
            before = await _find_held(connection, namespace, held_id)
            held = held_of(before)
            if held.state != "open":
                raise Conflict(f"the price {held_id} is {held.state} already")
            if accept:
                replaced = await find_price(connection, namespace, held.in_force)
                proposal = Proposal("changed", held.offered, held.origin, price_of(replaced))
                await _carry_out(connection, namespace, proposal, now, since or now, by)
            state = "accepted" if accept else "rejected"
            await connection.execute(
                update(held_llm_prices)
                .where(held_llm_prices.c.id == held_id)
                .values(state=state, decided_at=now, decided_by=by)
            )
            after = await _find_held(connection, namespace, held_id)
            await record(connection, by, state, "held_llm_price", before, after)
            return held_of(after)


async def _carry_out(
    connection: AsyncConnection,
    namespace: str,
    proposal: Proposal,
    now: datetime,
    since: datetime,
    by: str,
) -> None:
    match proposal.verdict:
        case "new":
            new = listed(namespace, proposal.offered, proposal.origin, now, since)
            await add_price(connection, new, by)
        case "changed" | "completed":
            await _supersede(connection, namespace, proposal, now, since, by)
        case "held":
            await _hold(connection, namespace, proposal, now, by)
        case "refused" | "unchanged":
            pass


async def _supersede(
    connection: AsyncConnection,
    namespace: str,
    proposal: Proposal,
    now: datetime,
    since: datetime,
    by: str,
) -> None:
    """End the price in force where the new one begins; one that never held ends as it began."""
    old = proposal.in_force
    if old is None:
        raise ValueError("a change is of a price in force")
    offered, origin = proposal.offered, proposal.origin
    if proposal.verdict == "completed":  # what is known stays, and whose it is
        offered = replace(offered, pricing=completed(old.pricing, offered.pricing))
        origin = old.origin
    elif old.currency == offered.currency:  # what the list is silent about stays
        offered = replace(offered, pricing=completed(offered.pricing, old.pricing))
    given = offered.effective_from
    begins = given if given is not None and given > old.effective_from else since
    new = replace(listed(namespace, offered, origin, now, begins), effective_from=begins)
    before = await find_price(connection, namespace, old.id)
    await connection.execute(
        update(llm_prices)
        .where(llm_prices.c.id == old.id)
        .values(effective_to=max(begins, old.effective_from), updated_at=now)
    )
    after = await find_price(connection, namespace, old.id)
    await record(connection, by, "changed", "llm_price", before, after)
    await add_price(connection, new, by)


async def _drop_held(connection: AsyncConnection, namespace: str, offer: PriceList) -> None:
    """What waits from an earlier import of the same list gives way to what it says now."""
    await connection.execute(
        delete(held_llm_prices).where(
            held_llm_prices.c.namespace == namespace,
            held_llm_prices.c.state == "open",
            held_llm_prices.c.origin == offer.origin,
        )
    )


async def _hold(
    connection: AsyncConnection, namespace: str, proposal: Proposal, now: datetime, by: str
) -> None:
    if proposal.in_force is None:
        raise ValueError("a price is held because of the one in force")
    held = HeldPrice(
        str(ULID()), namespace, proposal.offered, proposal.origin,
        proposal.in_force.id, "open", now,
    )  # fmt: skip
    await connection.execute(held_llm_prices.insert().values(held_values(held)))
    after = await _find_held(connection, namespace, held.id)
    await record(connection, by, "held", "held_llm_price", None, after)


async def _find_held(connection: AsyncConnection, namespace: str, held_id: str) -> Row[Any]:
    statement = select(held_llm_prices).where(
        held_llm_prices.c.namespace == namespace, held_llm_prices.c.id == held_id
    )
    row = (await connection.execute(statement)).one_or_none()
    if row is None:
        raise NotFound(f"no price that waits for a decision has the id {held_id}")
    return row
