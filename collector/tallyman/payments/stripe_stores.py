"""The stores that the work at Stripe reads and writes, of one namespace.

It decides nothing.
"""

from dataclasses import dataclass

from tallyman.store.customers import CustomerStore
from tallyman.store.database import Database
from tallyman.store.invoices import InvoiceStore
from tallyman.store.stripe_customers import StripeCustomerStore
from tallyman.store.stripe_invoices import StripeInvoiceStore
from tallyman.store.stripe_operations import StripeOperationStore


@dataclass(frozen=True)
class StripeStores:
    """Opened once."""

    namespace: str
    invoices: InvoiceStore
    customers: CustomerStore
    links: StripeCustomerStore
    syncs: StripeInvoiceStore
    operations: StripeOperationStore

    @classmethod
    def of(cls, database: Database, namespace: str) -> "StripeStores":
        """The stores of a database."""
        return cls(
            namespace,
            InvoiceStore(database),
            CustomerStore(database),
            StripeCustomerStore(database),
            StripeInvoiceStore(database, namespace),
            StripeOperationStore(database),
        )
