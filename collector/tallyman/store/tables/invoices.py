"""Billing profiles, invoices with their lines, and how far billing is.

Payments are not here.
"""

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
    Text,
    and_,
    not_,
)

from tallyman.store.tables.columns import DOCUMENT, UtcDateTime, metadata, text

billing_profiles = Table(
    "billing_profiles",
    metadata,
    Column("id", String(26), primary_key=True),
    Column("namespace", text(), nullable=False),
    Column("name", text(), nullable=False),
    Column("description", text()),
    Column("labels", JSON, nullable=False),
    Column("supplier", JSON, nullable=False),
    Column("workflow", JSON, nullable=False),
    Column("app", String(24), nullable=False),
    Column("is_default", Boolean, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    Column("deleted_at", UtcDateTime),
)
# A namespace has one default.
Index(
    "billing_profiles_default",
    billing_profiles.c.namespace,
    unique=True,
    sqlite_where=and_(billing_profiles.c.is_default, billing_profiles.c.deleted_at.is_(None)),
    postgresql_where=and_(billing_profiles.c.is_default, billing_profiles.c.deleted_at.is_(None)),
)

# `id` comes from the customer, the currency, `invoice_at` and the version: whoever makes it again
# finds it there. `revision` counts its changes, so that of two that change it at once one does.
invoices = Table(
    "invoices",
    metadata,
    Column("id", String(26), primary_key=True),
    Column("namespace", text(), nullable=False),
    Column("revision", Integer, nullable=False),
    Column("number", text(), nullable=False),
    Column("customer_id", String(26), nullable=False),
    Column("currency", String(3), nullable=False),
    Column("state", String(48), nullable=False),
    Column("status", String(24), nullable=False),
    Column("invoice_at", UtcDateTime, nullable=False),
    Column("version", Integer, nullable=False),
    Column("service_from", UtcDateTime, nullable=False),
    Column("service_to", UtcDateTime, nullable=False),
    Column("totals", JSON, nullable=False),
    Column("customer", JSON, nullable=False),
    Column("supplier", JSON, nullable=False),
    Column("workflow", JSON, nullable=False),
    Column("app", String(24), nullable=False),
    Column("validation_issues", JSON, nullable=False),
    Column("counting", DOCUMENT),
    Column("watermark", UtcDateTime),
    Column("quantity_snapshotted_at", UtcDateTime),
    Column("wakes_at", UtcDateTime),
    Column("collection_at", UtcDateTime),
    Column("draft_until", UtcDateTime),
    Column("issued_at", UtcDateTime),
    Column("due_at", UtcDateTime),
    Column("sent_to_customer_at", UtcDateTime),
    Column("paid_at", UtcDateTime),
    Column("voided_at", UtcDateTime),
    Column("billing_profile_id", String(26)),
    Column("external_invoicing_id", text()),
    Column("external_payment_id", text()),
    Column("description", text()),
    Column("labels", JSON, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    Column("deleted_at", UtcDateTime),
)
Index("invoices_number", invoices.c.namespace, invoices.c.number, unique=True)
Index("invoices_of_customer", invoices.c.namespace, invoices.c.customer_id, invoices.c.invoice_at)
# What the next run has to look at: few of all.
Index(
    "invoices_waking",
    invoices.c.wakes_at,
    sqlite_where=invoices.c.wakes_at.is_not(None),
    postgresql_where=invoices.c.wakes_at.is_not(None),
)

# What waits for Stripe: few of all.
_FOR_STRIPE = and_(
    invoices.c.app == "stripe", invoices.c.state.in_(("issuing.syncing", "delete.syncing"))
)
Index(
    "invoices_for_stripe",
    invoices.c.namespace,
    invoices.c.id,
    sqlite_where=_FOR_STRIPE,
    postgresql_where=_FOR_STRIPE,
)

# `body` is the line as JSON. What a deleted or voided invoice had is freed, and may be billed again.
invoice_lines = Table(
    "invoice_lines",
    metadata,
    Column("invoice_id", String(26), ForeignKey("invoices.id"), primary_key=True),
    Column("id", String(26), primary_key=True),
    Column("position", Integer, nullable=False),
    Column("customer_id", String(26), nullable=False),
    Column("subscription_id", String(26), nullable=False),
    Column("billable_id", String(26), nullable=False),
    Column("version", Integer, nullable=False),
    Column("freed", Boolean, nullable=False),
    Column("service_from", UtcDateTime, nullable=False),
    Column("service_to", UtcDateTime, nullable=False),
    Column("body", Text, nullable=False),
)
# A billable is billed once, and corrected once at a time, whoever bills it.
Index(
    "invoice_lines_once",
    invoice_lines.c.billable_id,
    invoice_lines.c.version,
    unique=True,
    sqlite_where=not_(invoice_lines.c.freed),
    postgresql_where=not_(invoice_lines.c.freed),
)
Index("invoice_lines_of_customer", invoice_lines.c.customer_id, invoice_lines.c.service_to)
# What may have to be billed again: few of all.
Index(
    "invoice_lines_freed",
    invoice_lines.c.customer_id,
    sqlite_where=invoice_lines.c.freed,
    postgresql_where=invoice_lines.c.freed,
)

# Up to where what a subscription owes is on invoices, and up to which watermark late events have been
# looked at; what is freed puts both back.
billing_progress = Table(
    "billing_progress",
    metadata,
    Column("subscription_id", String(26), primary_key=True),
    Column("customer_id", String(26), nullable=False),
    Column("billed_until", UtcDateTime, nullable=False),
    Column("corrected_until", UtcDateTime),
    Column("next_due_at", UtcDateTime),
    Column("as_of", UtcDateTime),
)
Index("billing_progress_of_customer", billing_progress.c.customer_id)

invoice_numbers = Table(
    "invoice_numbers",
    metadata,
    Column("namespace", text(), primary_key=True),
    Column("last", Integer, nullable=False),
)
