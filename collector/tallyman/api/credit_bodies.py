"""What is asked of the credit routes, as OpenMeter's v3 API has it; see `credit_answers.py`."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from tallyman.api.customer_bodies import CurrencyCode, ExternalKey
from tallyman.api.wire import (
    Body,
    Description,
    DurationText,
    Labels,
    Name,
    NumericText,
    ResourceKey,
    Time,
    Ulid,
)
from tallyman.domain.credit import (
    CreditGrant,
    CreditPurchase,
    FundingMethod,
)
from tallyman.domain.duration import parse_duration
from tallyman.domain.event import EARLIEST, LATEST
from tallyman.domain.money import EXACT, minor_units, round_to_currency
from tallyman.errors import InvalidInput, InvalidParameter

MOST: int = 10**12  # an amount is smaller
MOST_FEATURES = 100


def _check_method(method: str) -> str:
    if method == "invoice":
        raise PydanticCustomError(
            "funding_method",
            "must be none or external: no invoice is made for a grant",
            {"rule": "enum", "expected": "'none' or 'external'"},
        )
    return method


class CreditPurchaseRequest(Body):
    """What is paid for a unit of credit, 1 if nothing is said."""

    currency: CurrencyCode
    per_unit_cost_basis: NumericText = "1"
    availability_policy: Literal["on_creation"] = "on_creation"


class TaxCode(Body):
    """A tax code by its id."""

    id: Ulid


class CreditTaxConfig(Body):
    """How the purchase is taxed; it is kept, and nothing is taxed by it yet."""

    behavior: Literal["inclusive", "exclusive"] | None = None
    tax_code: TaxCode | None = None


class CreditFilters(Body):
    """What the credit pays for: these features' lines, or with none of them everything."""

    features: Annotated[list[ResourceKey], Field(max_length=MOST_FEATURES)] | None = None


class CreateCreditGrantRequest(Body):
    """Credit from `effective_at`, or now, until `expires_after` later, or without end."""

    name: Name
    description: Description | None = None
    labels: Labels | None = None
    funding_method: Annotated[
        Literal["none", "invoice", "external"],
        AfterValidator(_check_method),
        Field(json_schema_extra={"enum": ["none", "external"]}),
    ]
    currency: CurrencyCode
    amount: NumericText
    purchase: CreditPurchaseRequest | None = None
    tax_config: CreditTaxConfig | None = None
    filters: CreditFilters | None = None
    priority: Annotated[int, Field(ge=1, le=1000)] = 10
    effective_at: Time | None = None
    expires_after: DurationText | None = None
    key: ExternalKey | None = None

    @model_validator(mode="after")
    def _purchase_goes_with_the_method(self) -> Self:
        if (self.purchase is None) is (self.funding_method == "external"):
            said = "is required" if self.purchase is None else "must be absent"
            reason = f"purchase {said} where funding_method is {self.funding_method}"
            raise PydanticCustomError("purchase", "{reason}", {"reason": reason})
        return self

    def grant(self, id_: str, namespace: str, customer_id: str, now: datetime) -> CreditGrant:
        """The grant that is asked for.

        Raises:
            InvalidInput: the amount or a time is none that can be granted.
        """
        amount = amount_of(self.amount, self.currency)
        if amount <= 0:
            raise _wrong("amount", "min", "must be above 0", minimum=0)
        begins = self.effective_at or now
        if not EARLIEST <= begins < LATEST:
            raise _wrong("effective_at", "invalid", "must be from 1970 to 2199")
        expires = None
        if self.expires_after is not None:
            try:
                expires = parse_duration(self.expires_after, "expires_after").after(begins)
            except (ValueError, OverflowError) as err:
                raise _wrong("expires_after", "max", "must be shorter") from err
            if expires >= LATEST:
                raise _wrong("expires_after", "max", "must be shorter")
            if expires <= now:
                raise _wrong("expires_after", "invalid", "must end later than now")
        features = () if self.filters is None else tuple(self.filters.features or ())
        return CreditGrant(
            id=id_,
            namespace=namespace,
            customer_id=customer_id,
            currency=self.currency,
            amount=amount,
            name=self.name,
            description=self.description,
            labels=self.labels or {},
            funding_method=FundingMethod(self.funding_method),
            purchase=self._purchase(amount),
            tax_config=None if self.tax_config is None else self.tax_config.model_dump(),
            features=tuple(dict.fromkeys(features)),
            priority=self.priority,
            effective_at=begins,
            expires_at=expires,
            key=self.key,
            created_at=now,
            updated_at=now,
        )

    def _purchase(self, amount: Decimal) -> CreditPurchase | None:
        given = self.purchase
        if given is None:
            return None
        basis = Decimal(given.per_unit_cost_basis)
        if not 0 <= basis < MOST:
            raise _wrong("purchase.per_unit_cost_basis", "min", "must not be negative", minimum=0)
        minor_units(given.currency)
        paid = round_to_currency(EXACT.multiply(amount, basis), given.currency)
        return CreditPurchase(given.currency, paid, basis)


class VoidCreditGrantRequest(Body):
    """Nothing is paid back for it."""

    payment_adjustment: Literal["none"] | None = None


class CreditSettlementRequest(Body):
    """How far a payment that is collected elsewhere is."""

    status: Literal["pending", "authorized", "settled"]


class CreateCreditAdjustmentRequest(Body):
    """Credit that is given; or, of less than zero, taken."""

    name: Name
    description: Description | None = None
    labels: Labels | None = None
    currency: CurrencyCode
    amount: NumericText

    def grant(self, id_: str, namespace: str, customer_id: str, now: datetime) -> CreditGrant:
        """The adjustment that is asked for.

        Raises:
            InvalidInput: the amount is none.
        """
        amount = amount_of(self.amount, self.currency)
        if not amount:
            raise _wrong("amount", "invalid", "must not be 0")
        return CreditGrant(
            id=id_,
            namespace=namespace,
            customer_id=customer_id,
            currency=self.currency,
            amount=amount,
            name=self.name,
            description=self.description,
            labels=self.labels or {},
            effective_at=now,
            created_at=now,
            updated_at=now,
        )


def amount_of(text: str, currency: str, at: str = "amount") -> Decimal:
    """An amount in whole minor units of the currency.

    Raises:
        InvalidInput: it is none.
    """
    decimals, amount = minor_units(currency), Decimal(text)
    if amount != round_to_currency(amount, currency):
        raise _wrong(at, "invalid", f"must have at most {decimals} decimals in {currency}")
    if abs(amount) >= MOST:
        raise _wrong(at, "max", f"must be smaller than {MOST}", maximum=MOST)
    return round_to_currency(amount, currency)


def _wrong(field: str, rule: str, reason: str, **extra: Any) -> InvalidInput:
    return InvalidInput(f"{field} {reason}", [InvalidParameter(field, rule, reason, extra=extra)])
