"""The bodies of the customer routes, as OpenMeter's v3 API has them."""

from dataclasses import asdict
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, StringConstraints
from pydantic_core import PydanticCustomError

from tallyman.api.numbered_page import PaginatedMeta
from tallyman.api.wire import NO_NUL, Answer, Body, Description, Labels, Name, Resource
from tallyman.domain.customer import Address, Customer, is_country
from tallyman.domain.event import LONGEST_TEXT
from tallyman.domain.money import is_currency

MOST_SUBJECTS = 1000

ExternalKey = Annotated[str, StringConstraints(min_length=1, max_length=256, pattern=NO_NUL)]
CurrencyCode = Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$", min_length=3, max_length=3)]
Text = Annotated[str, StringConstraints(max_length=1024, pattern=NO_NUL)]
Email = Annotated[str, StringConstraints(max_length=256, pattern=NO_NUL)]
SubjectKey = Annotated[
    str, StringConstraints(min_length=1, max_length=LONGEST_TEXT, pattern=NO_NUL)
]


def _check_country(code: str) -> str:
    if not is_country(code):
        raise PydanticCustomError("country", "is not an ISO 3166 country", {"rule": "invalid"})
    return code


CountryCode = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Z]{2}$", min_length=2, max_length=2),
    AfterValidator(_check_country),
]


def _check_subjects(subjects: list[str]) -> list[str]:
    if len(set(subjects)) < len(subjects):
        raise PydanticCustomError("subjects", "has a subject twice", {"rule": "invalid"})
    return subjects


class UsageAttribution(Body):
    """The subjects whose usage is the customer's; a subject belongs to one customer."""

    subject_keys: Annotated[
        list[SubjectKey],
        Field(max_length=MOST_SUBJECTS, json_schema_extra={"uniqueItems": True}),
        AfterValidator(_check_subjects),
    ]


class AddressBody(Body):
    """Where an invoice goes."""

    country: CountryCode | None = None
    postal_code: Text | None = None
    state: Text | None = None
    city: Text | None = None
    line1: Text | None = None
    line2: Text | None = None
    phone_number: Text | None = None

    def address(self) -> Address | None:
        """None where nothing is given."""
        given = Address(**self.model_dump())
        return None if given == Address() else given

    @classmethod
    def of(cls, address: Address) -> "AddressBody":
        """The address on the wire."""
        return cls.model_construct(**asdict(address))  # kept is kept: not checked again


def _check_currency(code: str) -> str:
    if not is_currency(code):
        raise PydanticCustomError(
            "currency",
            "is not an ISO 4217 currency that money is owed in",
            {"rule": "invalid"},
        )
    return code


class UpsertCustomerRequest(Body):
    """A customer put anew: what is absent is no more. The key stays."""

    name: Name
    description: Description | None = None
    labels: Labels | None = None
    usage_attribution: UsageAttribution | None = None
    primary_email: Email | None = None
    currency: Annotated[CurrencyCode, AfterValidator(_check_currency)] | None = None
    billing_address: AddressBody | None = None

    def fields(self) -> dict[str, Any]:
        """What both a new customer and a change have."""
        attribution, address = self.usage_attribution, self.billing_address
        return {
            "name": self.name,
            "description": self.description,
            "labels": self.labels or {},
            "subject_keys": () if attribution is None else tuple(attribution.subject_keys),
            "primary_email": self.primary_email,
            "currency": self.currency,
            "billing_address": None if address is None else address.address(),
        }


class CreateCustomerRequest(UpsertCustomerRequest):
    """A new customer."""

    key: ExternalKey


class CustomerAnswer(Resource):
    """A customer."""

    key: ExternalKey
    usage_attribution: UsageAttribution | None = None
    primary_email: str | None = None
    currency: str | None = None
    billing_address: AddressBody | None = None

    @classmethod
    def of(cls, customer: Customer) -> Self:
        """The customer on the wire."""
        address = customer.billing_address
        return cls(
            id=customer.id,
            name=customer.name,
            description=customer.description,
            labels=customer.labels,
            created_at=customer.created_at,
            updated_at=customer.updated_at,
            deleted_at=customer.deleted_at,
            key=customer.key,
            usage_attribution=UsageAttribution(subject_keys=list(customer.subject_keys))
            if customer.subject_keys
            else None,
            primary_email=customer.primary_email,
            currency=customer.currency,
            billing_address=None if address is None else AddressBody.of(address),
        )


class CustomerPage(Answer):
    """A page of customers."""

    data: list[CustomerAnswer]
    meta: PaginatedMeta
