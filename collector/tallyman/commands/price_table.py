"""How the command `tallyman prices` shows prices, and what an import makes of them."""

from collections.abc import Iterable
from decimal import Decimal
from typing import Final

import click
from rich.table import Table

from tallyman.console import figures
from tallyman.domain.llm_price import PRICED_TYPES, LlmPrice, ModelPricing
from tallyman.domain.price import per_million
from tallyman.domain.price_list import PriceList
from tallyman.domain.price_merge import Proposal

_MARKS: Final = {"new": "+", "changed": "~", "completed": "~", "held": "?", "refused": "-"}
_SAID: Final = {
    "new": "new",
    "changed": "changed",
    "completed": "completed",
    "held": "held for a decision",
    "refused": "rejected before",
    "unchanged": "unchanged",
}
_COLORS: Final = {"new": "green", "changed": "yellow", "completed": "green", "held": "red"}


def show_proposals(proposals: Iterable[Proposal], offer: PriceList) -> None:
    """What becomes of each price of a list, and how many of each there are."""
    counted: dict[str, int] = dict.fromkeys(_SAID, 0)
    for one in proposals:
        counted[one.verdict] += 1
        if one.verdict in _MARKS:
            before = one.in_force
            was = "" if before is None else f"{said(before.pricing)} {before.currency} → "
            click.secho(
                f"{_MARKS[one.verdict]} {one.offered.provider}/{one.offered.model} {was}"
                f"{said(one.offered.pricing)} {one.offered.currency}",
                fg=_COLORS.get(one.verdict),
            )
    sums = ", ".join(f"{number} {_SAID[verdict]}" for verdict, number in counted.items() if number)
    click.echo(f"{offer.origin}, per million tokens: {sums}.")
    if offer.skipped:
        click.echo(f"Left out, without a price by the token: {len(offer.skipped)}.")


def price_table(shown: Iterable[LlmPrice]) -> Table:
    """Prices by type."""
    table = Table("provider", "model", box=None, title="Prices in force, per million tokens")
    for kind in PRICED_TYPES:
        table.add_column(kind.replace("_", " "), justify="right")
    for name in ("currency", "since", "from"):
        table.add_column(name)
    for one in shown:
        given = dict(one.pricing.given())
        cells = [_million(given[name]) if name in given else "" for name in PRICED_TYPES]
        since = f"{one.effective_from:%Y-%m-%d}"
        table.add_row(one.provider, one.model, *cells, one.currency, since, one.origin)
    return table


def said(pricing: ModelPricing) -> str:
    """`input 2.50 / output 10.00`, for a million tokens."""
    return " / ".join(f"{name} {_million(price)}" for name, price in pricing.given())


def _million(price: Decimal) -> str:
    return figures.without_code(per_million(price), "USD")
