"""What is behind the amount of an invoice line: `explanation`, Tallyman's own.

The line itself is `invoice_line_bodies.py`'s.
"""

from typing import Annotated, Self

from pydantic import Field

from tallyman.api.wire import Answer, Numeric, ResourceKey, Time, Ulid
from tallyman.domain.invoice_line import InvoiceLine
from tallyman.domain.usage import Usage


class LinePlan(Answer):
    """The version of the plan that was in force."""

    id: Ulid
    key: ResourceKey
    version: int


class LineTier(Answer):
    """A tier that the quantity has reached, and what of it falls into the tier."""

    number: int
    up_to_amount: Numeric | None = None
    quantity: Numeric
    unit_price: Numeric | None = None
    flat_price: Numeric | None = None


class UsageWindowAnswer(Answer):
    """Usage by the dimensions that it is shown by, such as model and type."""

    from_: Annotated[Time, Field(alias="from")]
    to: Time
    dimensions: dict[str, str]
    quantity: Numeric


class LineUsage(Answer):
    """What is behind the raw quantity."""

    unit: str
    events: int
    calls: int
    estimated_tokens: Numeric
    waived_tokens: Numeric
    windows: list[UsageWindowAnswer]

    @classmethod
    def of(cls, usage: Usage) -> Self:
        """The usage on the wire."""
        return cls(
            unit=usage.unit,
            events=usage.events,
            calls=usage.calls,
            estimated_tokens=usage.estimated_tokens,
            waived_tokens=usage.waived_tokens,
            windows=[
                UsageWindowAnswer(
                    from_=window.period.from_,
                    to=window.period.to,
                    dimensions=dict(window.dimensions),
                    quantity=window.quantity,
                )
                for window in usage.windows
            ],
        )


class Explanation(Answer):
    """Why the line is what it is. `corrects` is the id of the line that it corrects."""

    plan: LinePlan
    version: int
    corrects: Ulid | None = None
    tiers: list[LineTier] | None = None
    usage: LineUsage | None = None

    @classmethod
    def of(cls, line: InvoiceLine) -> Self:
        """The explanation on the wire."""
        tiers = [
            LineTier(
                number=tier.number,
                up_to_amount=tier.up_to,
                quantity=tier.quantity,
                unit_price=tier.unit_price,
                flat_price=tier.flat_price,
            )
            for tier in line.tiers
        ]
        return cls(
            plan=LinePlan(id=line.plan_id, key=line.plan_key, version=line.plan_version),
            version=line.version,
            corrects=line.corrects,
            tiers=tiers or None,
            usage=None if line.usage is None else LineUsage.of(line.usage),
        )
