"""The bodies of the app routes, as OpenMeter's v3 API has them."""

from datetime import datetime
from typing import Annotated, Final, Literal, Self, TypeAlias

from pydantic import Field

from tallyman.api.meter_bodies import PaginatedMeta
from tallyman.api.wire import Answer, Time, Ulid
from tallyman.domain.billing_profile import App
from tallyman.domain.content_id import content_id
from tallyman.domain.period import EPOCH

Capability = Literal["calculate_tax", "invoice_customers", "collect_payments"]


def app_id(app: App) -> str:
    """The id of an app: it is the same everywhere."""
    return content_id(EPOCH, "app", str(app))


class CapabilityAnswer(Answer):
    """Something that the app does."""

    type: Capability
    key: str
    name: str
    description: str


class CatalogueItem(Answer):
    """What the app is."""

    type: App
    name: str
    description: str
    capabilities: list[CapabilityAnswer]
    install_methods: list[Literal["with_api_key", "no_credentials_required"]]


class SandboxApp(Answer):
    """It charges nobody."""

    id: Ulid
    name: str
    created_at: Time
    updated_at: Time
    type: Literal["sandbox"] = "sandbox"
    definition: CatalogueItem
    status: Literal["ready", "unauthorized"]

    @classmethod
    def made(cls) -> Self:
        """The one that there always is."""
        return cls(
            id=app_id(App.SANDBOX),
            name="Sandbox",
            created_at=_ALWAYS,
            updated_at=_ALWAYS,
            definition=SANDBOX,
            status="ready",
        )


class StripeAppAnswer(Answer):
    """Stripe, by the key in the environment."""

    id: Ulid
    name: str
    created_at: Time
    updated_at: Time
    type: Literal["stripe"] = "stripe"
    definition: CatalogueItem
    status: Annotated[
        Literal["ready", "unauthorized"],
        Field(description="`unauthorized` where Stripe does not take the key."),
    ]
    account_id: str
    livemode: bool
    masked_api_key: str


AppAnswer: TypeAlias = Annotated[SandboxApp | StripeAppAnswer, Field(discriminator="type")]


class AppPage(Answer):
    """A page of apps."""

    data: list[AppAnswer]
    meta: PaginatedMeta


def _able(type_: Capability, name: str, description: str) -> CapabilityAnswer:
    return CapabilityAnswer(type=type_, key=type_, name=name, description=description)


_ALWAYS: Final[datetime] = EPOCH
SANDBOX: Final = CatalogueItem(
    type=App.SANDBOX,
    name="Sandbox",
    description="Makes invoices and charges nobody.",
    capabilities=[_able("invoice_customers", "Invoice", "Makes invoices.")],
    install_methods=["no_credentials_required"],
)
STRIPE: Final = CatalogueItem(
    type=App.STRIPE,
    name="Stripe",
    description="Sends invoices to Stripe, which collects them.",
    capabilities=[
        _able("invoice_customers", "Invoice", "Sends invoices."),
        _able("collect_payments", "Collect", "Takes payments, and repeats those that fail."),
    ],
    install_methods=["with_api_key"],
)
