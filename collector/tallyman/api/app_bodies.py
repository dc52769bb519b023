"""The bodies of the app routes, as OpenMeter's v3 API has them."""

from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import Field, RootModel

from tallyman.api.numbered_page import PaginatedMeta
from tallyman.api.wire import (
    Answer,
    Body,
    Description,
    Labels,
    Name,
    Time,
    Ulid,
    by_type,
    tagged,
)
from tallyman.domain.billing_profile import App
from tallyman.domain.content_id import content_id
from tallyman.domain.installed_app import InstalledApp
from tallyman.domain.period import EPOCH

_PASSWORD: Final[dict[str, Any]] = {"format": "password"}
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


class _AppAnswer(Answer):
    """What every app has."""

    id: Ulid
    name: str
    description: str | None = None
    labels: dict[str, str] | None = None
    created_at: Time
    updated_at: Time
    definition: CatalogueItem
    status: Annotated[
        Literal["ready", "unauthorized"],
        Field(description="`unauthorized` where Stripe does not take the key."),
    ]


class SandboxApp(_AppAnswer):
    """It charges nobody."""

    type: Literal["sandbox"] = "sandbox"


class StripeAppAnswer(_AppAnswer):
    """Stripe, by the key in the environment."""

    type: Literal["stripe"] = "stripe"
    account_id: str
    livemode: bool
    masked_api_key: str


class ExternalInvoicingApp(_AppAnswer):
    """Somebody else sends the invoices and takes the payments, and says so."""

    type: Literal["external_invoicing"] = "external_invoicing"
    enable_draft_sync_hook: Annotated[
        bool, Field(description="Whether drafts wait in `draft.syncing` until they are there.")
    ]
    enable_issuing_sync_hook: Annotated[
        bool, Field(description="Whether invoices wait in `issuing.syncing` until they are there.")
    ]


AppAnswer: TypeAlias = Annotated[
    SandboxApp | StripeAppAnswer | ExternalInvoicingApp, Field(discriminator="type")
]


def common(installed: InstalledApp) -> dict[str, Any]:
    """What every app has, on the wire."""
    return {
        "id": app_id(installed.app),
        "name": installed.name,
        "description": installed.description,
        "labels": installed.labels or None,
        "created_at": installed.created_at,
        "updated_at": installed.updated_at,
        "definition": CATALOGUE[installed.app],
        "status": "ready",
    }


class AppPage(Answer):
    """A page of apps."""

    data: list[AppAnswer]
    meta: PaginatedMeta


class CataloguePage(Answer):
    """A page of what can be installed."""

    data: list[CatalogueItem]
    meta: PaginatedMeta


class InstallAnswer(Answer):
    """The app; a profile that is made with it is the default of nobody."""

    app: AppAnswer
    default_for_capability_types: list[Capability]


class _Install(Body):
    name: Name
    create_billing_profile: bool


class InstallSandbox(_Install):
    """It is there already."""

    type: Literal["sandbox"]


class InstallExternalInvoicing(_Install):
    """Invoices are sent by somebody else."""

    type: Literal["external_invoicing"]


class InstallStripe(_Install):
    """`api_key` must be the one in the environment: it is kept nowhere else."""

    type: Literal["stripe"]
    api_key: Annotated[str, Field(min_length=1, max_length=255, json_schema_extra=_PASSWORD)]


InstallByType: TypeAlias = Annotated[
    Annotated[InstallStripe, tagged("stripe")]
    | Annotated[InstallSandbox, tagged("sandbox")]
    | Annotated[InstallExternalInvoicing, tagged("external_invoicing")],
    by_type("stripe", "sandbox", "external_invoicing"),
]


class InstallRequest(RootModel[InstallByType]):
    """An app that is to be there."""


class _Update(Body):
    name: Name
    description: Description | None = None
    labels: Labels | None = None


class UpdateSandbox(_Update):
    """What the sandbox is called."""

    type: Literal["sandbox"]


class UpdateExternalInvoicing(_Update):
    """What it is called, and where invoices wait."""

    type: Literal["external_invoicing"]
    enable_draft_sync_hook: bool
    enable_issuing_sync_hook: bool


class UpdateStripe(_Update):
    """What Stripe is called; a key that is given must be the one in the environment."""

    type: Literal["stripe"]
    secret_api_key: (
        Annotated[str, Field(min_length=1, max_length=255, json_schema_extra=_PASSWORD)] | None
    ) = None


UpdateByType: TypeAlias = Annotated[
    Annotated[UpdateStripe, tagged("stripe")]
    | Annotated[UpdateSandbox, tagged("sandbox")]
    | Annotated[UpdateExternalInvoicing, tagged("external_invoicing")],
    by_type("stripe", "sandbox", "external_invoicing"),
]


class UpdateRequest(RootModel[UpdateByType]):
    """What an app is from now on."""


def _able(type_: Capability, name: str, description: str) -> CapabilityAnswer:
    return CapabilityAnswer(type=type_, key=type_, name=name, description=description)


CATALOGUE: Final = {
    App.SANDBOX: CatalogueItem(
        type=App.SANDBOX,
        name="Sandbox",
        description="Makes invoices and charges nobody.",
        capabilities=[_able("invoice_customers", "Invoice", "Makes invoices.")],
        install_methods=["no_credentials_required"],
    ),
    App.STRIPE: CatalogueItem(
        type=App.STRIPE,
        name="Stripe",
        description="Sends invoices to Stripe, which collects them.",
        capabilities=[
            _able("invoice_customers", "Invoice", "Sends invoices."),
            _able("collect_payments", "Collect", "Takes payments, and repeats those that fail."),
        ],
        install_methods=["with_api_key"],
    ),
    App.EXTERNAL_INVOICING: CatalogueItem(
        type=App.EXTERNAL_INVOICING,
        name="External invoicing",
        description="Somebody else sends the invoices, collects them, and says what became of them.",
        capabilities=[
            _able("invoice_customers", "Invoice", "Invoices are sent outside."),
            _able("collect_payments", "Collect", "Payments are taken outside."),
        ],
        install_methods=["no_credentials_required"],
    ),
}
