"""Customers, and whose usage is theirs.

What they have subscribed to is in `subscriptions.py`.
"""

from sqlalchemy import JSON, Column, ForeignKey, Index, Integer, String, Table

from tallyman.store.tables.columns import DOCUMENT, UtcDateTime, metadata, text

customers = Table(
    "customers",
    metadata,
    Column("id", String(26), primary_key=True),
    Column("namespace", text(), nullable=False),
    Column("key", text(), nullable=False),
    Column("name", text(), nullable=False),
    Column("description", text()),
    Column("labels", JSON, nullable=False),
    Column("primary_email", text()),
    Column("currency", String(3)),
    Column("billing_address", DOCUMENT),
    Column("billing_profile_id", String(26)),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    Column("deleted_at", UtcDateTime),
)
Index(
    "customers_key",
    customers.c.namespace,
    customers.c.key,
    unique=True,
    sqlite_where=customers.c.deleted_at.is_(None),
    postgresql_where=customers.c.deleted_at.is_(None),
)

# A row is a claim on a subject's usage: of the time [effective_from, released_at), where a null is
# no bound. `claimed_at` is when it was made, so that what was known at any time can be told.
customer_subjects = Table(
    "customer_subjects",
    metadata,
    Column("id", String(26), primary_key=True),
    Column("namespace", text(), nullable=False),
    Column("customer_id", String(26), ForeignKey("customers.id"), nullable=False),
    Column("subject", text(), nullable=False),
    Column("position", Integer, nullable=False),
    Column("effective_from", UtcDateTime),
    Column("claimed_at", UtcDateTime, nullable=False),
    Column("released_at", UtcDateTime),
)
Index("customer_subjects_of_customer", customer_subjects.c.customer_id)
Index("customer_subjects_of_subject", customer_subjects.c.namespace, customer_subjects.c.subject)
# A subject belongs to one customer.
Index(
    "customer_subjects_one_owner",
    customer_subjects.c.namespace,
    customer_subjects.c.subject,
    unique=True,
    sqlite_where=customer_subjects.c.released_at.is_(None),
    postgresql_where=customer_subjects.c.released_at.is_(None),
)
