"""The relational tables as SQLAlchemy sees them; `migrations/` creates and changes them.

Events are not here: they are in ClickHouse (`event_schema.py`). A new noun gets a module of its own,
and a line here, so that `metadata` knows it.
"""

from tallyman.store.tables.access import api_keys, audit_log
from tallyman.store.tables.apps import external_customers, installed_apps
from tallyman.store.tables.catalogue import features, plans
from tallyman.store.tables.columns import metadata
from tallyman.store.tables.credit_notes import (
    credit_note_lines,
    credit_notes,
    re_rated_billables,
    re_ratings,
    refunds,
)
from tallyman.store.tables.credits import (
    credit_entries,
    credit_grants,
    credit_top_ups,
    credit_transactions,
)
from tallyman.store.tables.customers import customer_subjects, customers
from tallyman.store.tables.event_changes import event_changes
from tallyman.store.tables.invoices import (
    billing_profiles,
    billing_progress,
    invoice_lines,
    invoice_numbers,
    invoices,
)
from tallyman.store.tables.llm_prices import held_llm_prices, llm_prices
from tallyman.store.tables.metering import meters
from tallyman.store.tables.payments import (
    stripe_customers,
    stripe_events,
    stripe_invoices,
    stripe_operations,
)
from tallyman.store.tables.sandboxes import sandboxes, test_clocks
from tallyman.store.tables.subscriptions import (
    entitlement_grants,
    entitlement_overrides,
    entitlement_resets,
    subscriptions,
)

__all__ = [
    "api_keys",
    "audit_log",
    "billing_profiles",
    "billing_progress",
    "credit_entries",
    "credit_grants",
    "credit_note_lines",
    "credit_notes",
    "credit_top_ups",
    "credit_transactions",
    "customer_subjects",
    "customers",
    "entitlement_grants",
    "entitlement_overrides",
    "entitlement_resets",
    "event_changes",
    "external_customers",
    "features",
    "held_llm_prices",
    "installed_apps",
    "invoice_lines",
    "invoice_numbers",
    "invoices",
    "llm_prices",
    "metadata",
    "meters",
    "plans",
    "re_rated_billables",
    "re_ratings",
    "refunds",
    "sandboxes",
    "stripe_customers",
    "stripe_events",
    "stripe_invoices",
    "stripe_operations",
    "subscriptions",
    "test_clocks",
]
