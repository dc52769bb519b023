"""The part of the route table that is about apps, how customers pay, and Stripe's webhooks."""

from typing import Final

from tallyman.api import apps, customer_billing, invoices, stripe_webhook
from tallyman.api.app_bodies import (
    AppPage,
    CatalogueItem,
    CataloguePage,
    ExternalInvoicingApp,
    InstallAnswer,
    InstallRequest,
    SandboxApp,
    StripeAppAnswer,
    UpdateRequest,
)
from tallyman.api.customer_billing_bodies import (
    AppDataAnswer,
    AppDataBody,
    CheckoutAnswer,
    CheckoutRequest,
    PortalAnswer,
    PortalRequest,
)
from tallyman.api.invoice_bodies import InvoiceAnswer, SynchronizedRequest
from tallyman.api.route import JSON, Answered, Route
from tallyman.api.stripe_webhook import SIGNATURE, WebhookAnswer
from tallyman.domain.access import Scope
from tallyman.domain.billing_profile import App

BILLING: Final = "/customers/{customerId}/billing"
# Both are described with the page of apps.
APP: Final = {
    JSON: {
        "oneOf": [
            {"$ref": f"#/components/schemas/{one.__name__}"}
            for one in (SandboxApp, StripeAppAnswer, ExternalInvoicingApp)
        ]
    }
}

ROUTES: Final = (
    Route(
        "GET", "/apps", apps.list_, Scope.READ,
        "list-apps", "List who can send invoices",
        Answered(200, "A page of apps.", {JSON: AppPage}),
        "The sandbox is always there, Stripe where its key is set.", parameters=apps.LIST,
    ),
    Route(
        "GET", "/apps/{appId}", apps.get, Scope.READ,
        "get-app", "Read an app",
        Answered(200, "The app.", APP), problems=(404,),
    ),
    Route(
        "PUT", "/apps/{appId}", apps.update, Scope.ADMIN,
        "update-app", "Say what an app is called, and where invoices wait",
        Answered(200, "The app.", APP),
        "Invoices that are made already keep where they wait.",
        body={JSON: UpdateRequest}, problems=(404, 409, 413),
    ),
    Route(
        "DELETE", "/apps/{appId}", apps.uninstall, Scope.ADMIN,
        "uninstall-app", "Uninstall external invoicing",
        Answered(204, "It is there no more."),
        "Not while a billing profile has it.", problems=(404, 409),
    ),
    Route(
        "GET", "/app-catalog", apps.list_catalogue, Scope.READ,
        "list-app-catalog", "List the apps that there are",
        Answered(200, "A page of the catalogue.", {JSON: CataloguePage}),
        parameters=apps.CATALOGUE_LIST,
    ),
    Route(
        "GET", "/app-catalog/{appType}", apps.get_catalogue_item, Scope.READ,
        "get-app-catalog-item", "Read an app of the catalogue",
        Answered(200, "What the app is.", {JSON: CatalogueItem}), problems=(404,),
        choices={"appType": tuple(App)},
    ),
    Route(
        "POST", "/app-catalog/install", apps.install, Scope.ADMIN,
        "install-app", "Install an app",
        Answered(201, "The app.", {JSON: InstallAnswer}),
        "Stripe's key must be the one in the environment.",
        body={JSON: InstallRequest}, problems=(409, 413),
    ),
    Route(
        "POST", "/api/v1/billing/invoices/{invoiceId}/synchronized", invoices.synchronize,
        Scope.BILLING, "synchronize-invoice", "Say that an invoice is where it is invoiced outside",
        Answered(200, "The invoice.", {JSON: InvoiceAnswer}),
        "It goes on from `draft.syncing` or `issuing.syncing`, where external invoicing has it wait.",
        body={JSON: SynchronizedRequest}, body_required=False,
        problems=(404, 410, 413), openmeter=False,
    ),
    Route(
        "PUT", f"{BILLING}/app-data", customer_billing.put_app_data, Scope.BILLING,
        "update-customer-billing-app-data", "Say who a customer is at Stripe",
        Answered(200, "Who it is.", {JSON: AppDataAnswer}),
        body={JSON: AppDataBody}, problems=(404, 409, 410, 413),
    ),
    Route(
        "POST", f"{BILLING}/stripe/checkout-sessions", customer_billing.checkout, Scope.BILLING,
        "create-customer-stripe-checkout-session", "Open Stripe's page to leave a way to pay",
        Answered(201, "The page.", {JSON: CheckoutAnswer}),
        body={JSON: CheckoutRequest}, problems=(404, 409, 410, 413),
    ),
    Route(
        "POST", f"{BILLING}/stripe/portal-sessions", customer_billing.portal, Scope.BILLING,
        "create-customer-stripe-portal-session", "Open Stripe's page with invoices and ways to pay",
        Answered(201, "The page.", {JSON: PortalAnswer}),
        body={JSON: PortalRequest}, problems=(404, 409, 410, 413),
    ),
    Route(
        "POST", "/api/v1/stripe/webhook", stripe_webhook.take, None,
        "take-stripe-webhook", "Take in an event of Stripe's",
        Answered(200, "What became of it.", {JSON: WebhookAnswer}),
        "Its signature is its key. An event may come twice and in any order.",
        body={JSON: {"type": "object", "description": "An event as Stripe sends it."}},
        parameters=SIGNATURE, problems=(409, 413), openmeter=False,
    ),
)  # fmt: skip
