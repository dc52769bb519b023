"""A shop whose invoices go to a small Stripe of ours, and the clock of both."""

import uuid
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest
from tallyman.domain.billing_profile import App, CollectionMethod
from tallyman.domain.customer import Customer
from tallyman.domain.invoice import Invoice
from tallyman.domain.invoice_state import InvoiceState
from tallyman.domain.stripe_operation import OperationKind
from tallyman.payments.stripe_app import StripeAccount, StripeApp
from tallyman.store.customers import CustomerStore
from tallyman.store.database import Database
from tallyman.store.invoices import InvoiceStore
from tallyman.store.stripe_operations import Heard

from tests.rigs import sold
from tests.rigs.stripe import SECRET, FakeStripe, fake_stripe

KEY = "sk_test_abcdefghijkl1234"


@dataclass
class Till:
    """Invoices that are ready to be sent, and the app that sends them."""

    database: Database
    stripe: FakeStripe
    namespace: str
    app: StripeApp
    now: datetime

    @property
    def invoices(self) -> InvoiceStore:
        return InvoiceStore(self.database)

    def wait(self, time: timedelta) -> None:
        """Both clocks go on."""
        self.now += time
        self.stripe.now += time.total_seconds()

    def restart(self, heard: Mapping[OperationKind, Heard] | None = None) -> StripeApp:
        """The app as another process has it."""
        account = StripeAccount(KEY, self.namespace, SECRET, self.stripe.url, timeout_seconds=5)
        return StripeApp(account, self.database, lambda: self.now, heard)

    async def customer(self, name: str = "acme") -> Customer:
        """A customer that is kept."""
        return await CustomerStore(self.database).create(
            replace(sold.customer(name, self.namespace), subject_keys=())
        )

    async def issuing(
        self,
        customer: Customer,
        quantity: int = 5_000_000,
        state: InvoiceState = InvoiceState.ISSUING_SYNCING,
        method: CollectionMethod = CollectionMethod.CHARGE_AUTOMATICALLY,
        app: App = App.STRIPE,
        currency: str = "USD",
    ) -> Invoice:
        """An invoice of two lines that is to be sent now."""
        cards = sold.card("tokens"), sold.card("calls")
        bought = sold.subscription(customer, *cards, currency=currency)
        draft = sold.draft(customer, bought, quantity)
        made = replace(
            draft,
            app=app,
            state=state,
            workflow=replace(draft.workflow, collection_method=method),
        )
        [kept] = await self.invoices.add(self.namespace, [made])
        return kept

    async def get(self, invoice: Invoice) -> Invoice:
        """It, as it is now."""
        return await self.invoices.get(self.namespace, invoice.id)


@pytest.fixture
async def till(database: Database) -> AsyncIterator[Till]:
    """An empty till with Stripe."""
    async with fake_stripe() as fake:
        now = datetime.fromtimestamp(fake.now, UTC)
        made = Till(database, fake, f"ns-{uuid.uuid4().hex}", None, now)  # type: ignore[arg-type]  # the next line makes it
        made.app = made.restart()
        yield made
        await made.app.close()
