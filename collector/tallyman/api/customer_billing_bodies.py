"""The bodies of what a customer is to the apps, as OpenMeter's v3 API has them."""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self

from pydantic import Field, StringConstraints

from tallyman.api.customer_bodies import CurrencyCode
from tallyman.api.wire import NO_NUL, Answer, Body, Labels, Time, Ulid
from tallyman.domain.customer import Customer
from tallyman.payments.stripe_lines import CUSTOMER_KEY
from tallyman.store.stripe_customers import StripeCustomer

StripeId = Annotated[str, StringConstraints(min_length=1, max_length=255, pattern=r"^[\w-]+$")]
Text = Annotated[str, StringConstraints(max_length=1200, pattern=NO_NUL)]
Address = Annotated[str, StringConstraints(max_length=2048, pattern=NO_NUL)]


class ProfileReferenceBody(Body):
    """A billing profile, by its id."""

    id: Ulid


class StripeDataBody(Body):
    """Who the customer is at Stripe."""

    customer_id: StripeId | None = None
    default_payment_method_id: StripeId | None = None
    labels: Labels | None = None


class ExternalDataBody(Body):
    """What the customer is to whoever invoices outside."""

    labels: Labels | None = None


class AppDataBody(Body):
    """What the customer is to each app."""

    stripe: StripeDataBody | None = None
    external_invoicing: ExternalDataBody | None = None

    @classmethod
    def of(cls, link: StripeCustomer, external_labels: dict[str, str]) -> Self:
        """It on the wire; nothing where there is nothing."""
        external = ExternalDataBody(labels=external_labels) if external_labels else None
        if link.stripe_id is None and link.default_payment_method_id is None and not link.labels:
            return cls(external_invoicing=external)
        return cls(
            external_invoicing=external,
            stripe=StripeDataBody(
                customer_id=link.stripe_id,
                default_payment_method_id=link.default_payment_method_id,
                labels=link.labels or None,
            ),
        )


class UpsertCustomerBillingRequest(Body):
    """How the customer is billed: what is absent is the default's."""

    billing_profile: ProfileReferenceBody | None = None
    app_data: AppDataBody | None = None


class CustomerBillingAnswer(Answer):
    """How the customer is billed: its own profile, or the default one."""

    billing_profile: ProfileReferenceBody
    app_data: AppDataBody


class AppDataAnswer(Answer):
    """What the customer is to each app."""

    stripe: StripeDataBody | None = None
    external_invoicing: ExternalDataBody | None = None


class CustomTextBody(Body):
    """A text on the page."""

    message: Text | None = None


class CustomTextsBody(Body):
    """Texts on the page, by their places."""

    after_submit: CustomTextBody | None = None
    shipping_address: CustomTextBody | None = None
    submit: CustomTextBody | None = None
    terms_of_service_acceptance: CustomTextBody | None = None


class ReuseAgreementBody(Body):
    """Whether the reuse of the way to pay is spoken of."""

    position: Literal["auto", "hidden"] | None = None


class ConsentCollectionBody(Body):
    """What the customer is asked to agree to."""

    payment_method_reuse_agreement: ReuseAgreementBody | None = None
    promotions: Literal["auto", "none"] | None = None
    terms_of_service: Literal["none", "required"] | None = None


class CustomerUpdateBody(Body):
    """What Stripe's customer takes over from the page."""

    address: Literal["auto", "never"] | None = None
    name: Literal["auto", "never"] | None = None
    shipping: Literal["auto", "never"] | None = None


class TaxIdCollectionBody(Body):
    """Whether a tax id is asked for."""

    enabled: bool = False
    required: Literal["if_supported", "never"] | None = None


class CheckoutOptions(Body):
    """What Stripe's page is like."""

    billing_address_collection: Literal["auto", "required"] | None = None
    cancel_url: Address | None = None
    client_reference_id: (
        Annotated[str, StringConstraints(max_length=200, pattern=NO_NUL)] | None
    ) = None
    consent_collection: ConsentCollectionBody | None = None
    currency: CurrencyCode | None = None
    custom_text: CustomTextsBody | None = None
    customer_update: CustomerUpdateBody | None = None
    expires_at: Annotated[int, Field(ge=0, le=2**53)] | None = None
    locale: Annotated[str, StringConstraints(max_length=16, pattern=NO_NUL)] | None = None
    metadata: Annotated[dict[str, Text], Field(max_length=50)] | None = None
    payment_method_types: Annotated[list[Text], Field(max_length=20)] | None = None
    redirect_on_completion: Literal["always", "if_required", "never"] | None = None
    return_url: Address | None = None
    success_url: Address | None = None
    tax_id_collection: TaxIdCollectionBody | None = None
    ui_mode: Literal["embedded", "hosted"] | None = None

    def params(self, stripe_customer: str, customer: Customer) -> dict[str, Any]:
        """What Stripe is sent; whose way to pay it is comes back with it."""
        given = self.model_dump(exclude_none=True)
        wanted = given.pop("currency", customer.currency)
        if "ui_mode" in given:
            given["ui_mode"] = f"{given['ui_mode']}_page"
        if wanted is not None:
            given["currency"] = wanted.lower()
        return {
            **given,
            "customer": stripe_customer,
            "mode": "setup",
            "setup_intent_data": {"metadata": {CUSTOMER_KEY: customer.id}},
        }


class CheckoutRequest(Body):
    """A page on which the customer leaves a way to pay."""

    stripe_options: CheckoutOptions


class CheckoutAnswer(Answer):
    """The page."""

    customer_id: Ulid
    stripe_customer_id: str
    session_id: str
    setup_intent_id: str
    client_secret: str | None = None
    client_reference_id: str | None = None
    customer_email: str | None = None
    currency: str | None = None
    created_at: Time
    expires_at: Time | None = None
    metadata: dict[str, str] | None = None
    status: str | None = None
    url: str | None = None
    mode: Literal["setup"] = "setup"
    cancel_url: str | None = None
    success_url: str | None = None
    return_url: str | None = None

    @classmethod
    def of(cls, session: dict[str, Any], customer_id: str, stripe_customer: str) -> Self:
        """Stripe's session on our wire."""
        setup = session.get("setup_intent")
        currency = session.get("currency")
        same = ("client_secret", "client_reference_id", "customer_email", "metadata", "status")
        urls = ("url", "cancel_url", "success_url", "return_url")
        return cls(
            customer_id=customer_id,
            stripe_customer_id=stripe_customer,
            session_id=session["id"],
            setup_intent_id=setup if isinstance(setup, str) else (setup or {}).get("id", ""),
            currency=None if currency is None else currency.upper(),
            created_at=_moment(session["created"]),
            expires_at=_moment(session["expires_at"]) if session.get("expires_at") else None,
            **{name: session.get(name) for name in (*same, *urls)},
        )


class PortalOptions(Body):
    """What Stripe's portal is like."""

    configuration_id: StripeId | None = None
    locale: Annotated[str, StringConstraints(max_length=16, pattern=NO_NUL)] | None = None
    return_url: Address | None = None

    def params(self, stripe_customer: str) -> dict[str, Any]:
        """What Stripe is sent."""
        given = self.model_dump(exclude_none=True)
        if "configuration_id" in given:
            given["configuration"] = given.pop("configuration_id")
        return {**given, "customer": stripe_customer}


class PortalRequest(Body):
    """A page on which the customer sees its invoices and ways to pay."""

    stripe_options: PortalOptions


class PortalAnswer(Answer):
    """The page."""

    id: str
    stripe_customer_id: str
    configuration_id: str
    livemode: bool
    created_at: Time
    return_url: str
    locale: str
    url: str

    @classmethod
    def of(cls, session: dict[str, Any], stripe_customer: str) -> Self:
        """Stripe's session on our wire."""
        configuration = session.get("configuration") or ""
        return cls(
            id=session["id"],
            stripe_customer_id=stripe_customer,
            configuration_id=configuration
            if isinstance(configuration, str)
            else configuration["id"],
            livemode=session["livemode"],
            created_at=_moment(session["created"]),
            return_url=session.get("return_url") or "",
            locale=session.get("locale") or "",
            url=session["url"],
        )


def _moment(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
