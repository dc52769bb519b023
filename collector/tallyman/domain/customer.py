"""A customer: who pays, and for whose usage.

It does not know what is paid: see `subscription.py`.
"""

from dataclasses import dataclass, field
from datetime import datetime

from iso3166 import countries_by_alpha2


def is_country(code: str) -> bool:
    """Whether ISO 3166 has a country of these two letters."""
    return code in countries_by_alpha2


@dataclass(frozen=True)
class Address:
    """Where an invoice goes; `country` is ISO 3166's two letters."""

    country: str | None = None
    postal_code: str | None = None
    state: str | None = None
    city: str | None = None
    line1: str | None = None
    line2: str | None = None
    phone_number: str | None = None


@dataclass(frozen=True)
class Customer:
    """`subject_keys` are the consumers whose usage is the customer's; each belongs to one only."""

    id: str
    namespace: str
    key: str
    name: str
    created_at: datetime
    updated_at: datetime
    subject_keys: tuple[str, ...] = ()
    primary_email: str | None = None
    currency: str | None = None
    billing_address: Address | None = None
    billing_profile_id: str | None = None
    description: str | None = None
    labels: dict[str, str] = field(default_factory=dict)
    deleted_at: datetime | None = None


@dataclass(frozen=True)
class SubjectSpan:
    """A subject, and the time in which its usage is the customer's: [from_, to), None is no bound."""

    subject: str
    from_: datetime | None = None
    to: datetime | None = None

    def holds(self, moment: datetime) -> bool:
        """Whether usage at this moment is the customer's."""
        return (self.from_ is None or self.from_ <= moment) and (
            self.to is None or moment < self.to
        )
