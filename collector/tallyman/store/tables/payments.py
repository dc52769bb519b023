"""How far customers, invoices and what else is asked for are at Stripe, and its webhooks.

The customers and invoices themselves are in the modules beside it.
"""

from sqlalchemy import JSON, Boolean, Column, ForeignKey, Index, Integer, String, Table

from tallyman.store.tables.columns import UtcDateTime, metadata, text

# Whose customer at Stripe is which. `stripe_id` is null until it is known; `attempted_at` is when its
# making was first asked for under the key that `generation` is a part of, `look_at` when Stripe said
# that the customer has left a way to pay, `tell_at` when it was changed here, which Stripe must be told.
stripe_customers = Table(
    "stripe_customers",
    metadata,
    Column("customer_id", String(26), ForeignKey("customers.id"), primary_key=True),
    Column("namespace", text(), nullable=False),
    Column("stripe_id", text()),
    Column("default_payment_method_id", text()),
    Column("labels", JSON, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("attempted_at", UtcDateTime),
    Column("look_at", UtcDateTime),
    Column("tell_at", UtcDateTime),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
)
Index("stripe_customers_stripe_id", stripe_customers.c.stripe_id, unique=True)

# How far an invoice is at Stripe. `work_at` is when to look at it next, null where nothing is left to
# do; `claimed_until` keeps two servers from the same one; `round` counts the payments asked for.
stripe_invoices = Table(
    "stripe_invoices",
    metadata,
    Column("invoice_id", String(26), ForeignKey("invoices.id"), primary_key=True),
    Column("namespace", text(), nullable=False),
    Column("stripe_id", text()),
    Column("payment_id", text()),
    Column("generation", Integer, nullable=False),
    Column("attempted_at", UtcDateTime),
    Column("round", Integer, nullable=False),
    Column("asked_at", UtcDateTime),
    Column("failures", Integer, nullable=False),
    Column("last_error", text()),
    Column("work_at", UtcDateTime),
    Column("claimed_until", UtcDateTime),
    Column("hints", Integer, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
)
Index("stripe_invoices_stripe_id", stripe_invoices.c.stripe_id, unique=True)
Index("stripe_invoices_payment_id", stripe_invoices.c.payment_id)
Index("stripe_invoices_work", stripe_invoices.c.namespace, stripe_invoices.c.work_at)

# Credit notes, refunds and top-ups that Stripe is asked for. `id` is of what asks; the times and counts
# are as in `stripe_invoices`.
stripe_operations = Table(
    "stripe_operations",
    metadata,
    Column("id", String(26), primary_key=True),
    Column("namespace", text(), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("customer_id", String(26), ForeignKey("customers.id"), nullable=False),
    Column("currency", String(3), nullable=False),
    Column("lines", JSON, nullable=False),
    Column("invoice_id", String(26), ForeignKey("invoices.id")),
    Column("top_up_id", String(26), ForeignKey("stripe_operations.id")),
    Column("returned", String(16), nullable=False),
    Column("state", String(16), nullable=False),
    Column("is_canceling", Boolean, nullable=False),
    Column("stripe_id", text()),
    Column("payment_id", text()),
    Column("said", text()),
    Column("generation", Integer, nullable=False),
    Column("attempted_at", UtcDateTime),
    Column("round", Integer, nullable=False),
    Column("asked_at", UtcDateTime),
    Column("failures", Integer, nullable=False),
    Column("work_at", UtcDateTime),
    Column("claimed_until", UtcDateTime),
    Column("hints", Integer, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
)
Index("stripe_operations_stripe_id", stripe_operations.c.stripe_id, unique=True)
Index("stripe_operations_payment_id", stripe_operations.c.payment_id)
Index("stripe_operations_of_invoice", stripe_operations.c.invoice_id)
Index("stripe_operations_work", stripe_operations.c.namespace, stripe_operations.c.work_at)

# The webhooks that were taken in, by Stripe's id of each.
stripe_events = Table(
    "stripe_events",
    metadata,
    Column("id", String(255), primary_key=True),
    Column("namespace", text(), nullable=False),
    Column("type", text(), nullable=False),
    Column("stripe_id", text()),
    Column("created_at", UtcDateTime, nullable=False),
    Column("received_at", UtcDateTime, nullable=False),
)
