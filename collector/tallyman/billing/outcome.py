"""What a billing run did, or in a dry run would do: its invoices in short, and their sums.

How it is shown is `report.py`'s.
"""

import logging
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal

from tallyman.domain.invoice import Invoice
from tallyman.domain.invoice_state import InvoiceState
from tallyman.domain.money import EXACT

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Billed:
    """An invoice that a run made or moved, in short."""

    id: str
    number: str
    customer_key: str
    state: InvoiceState
    currency: str
    total: Decimal
    lines: int
    corrections: int
    issues: tuple[str, ...]


@dataclass
class Outcome:
    """What a run did, or in a dry run would do.

    `left` is how many invoices someone else was first with; `not_corrected` says what could not be
    rated again, and is on no invoice that would say so.
    """

    invoices: dict[str, Billed] = field(default_factory=dict)
    left: int = 0
    not_corrected: list[str] = field(default_factory=list)

    def add(self, invoices: Iterable[Invoice]) -> None:
        """Take these in, as they are now."""
        for one in invoices:
            self.invoices[one.id] = _in_short(one)

    @property
    def failed(self) -> list[Billed]:
        """Those that wait for someone to mend something."""
        return [one for one in self.invoices.values() if one.state.is_failed]

    def totals(self) -> dict[str, Decimal]:
        """The sum of the invoices by currency."""
        sums: dict[str, Decimal] = {}
        for one in self.invoices.values():
            sums[one.currency] = EXACT.add(sums.get(one.currency, Decimal(0)), one.total)
        return sums

    def by_status(self) -> Counter[str]:
        """How many are in each status."""
        return Counter(one.state.status for one in self.invoices.values())


def _in_short(one: Invoice) -> Billed:
    issues = tuple(issue.code for issue in one.validation_issues)
    if one.state.is_failed:
        _log.warning("invoice %s is %s: %s", one.id, one.state, ", ".join(issues))
    return Billed(
        id=one.id,
        number=one.number,
        customer_key=one.customer.key,
        state=one.state,
        currency=one.currency,
        total=one.totals.total,
        lines=len(one.lines),
        corrections=sum(line.corrects is not None for line in one.lines),
        issues=issues,
    )
