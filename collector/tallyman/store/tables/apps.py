"""The apps of each namespace, and what customers are to external invoicing.

What they are to Stripe is in `payments.py`.
"""

from sqlalchemy import JSON, Boolean, Column, ForeignKey, String, Table

from tallyman.store.tables.columns import UtcDateTime, metadata, text

# What was said of an app; external invoicing is there only where it has a row.
installed_apps = Table(
    "installed_apps",
    metadata,
    Column("namespace", text(), primary_key=True),
    Column("app", String(24), primary_key=True),
    Column("name", text(), nullable=False),
    Column("description", text()),
    Column("labels", JSON, nullable=False),
    Column("waits_in_draft", Boolean, nullable=False),
    Column("waits_to_issue", Boolean, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
)

external_customers = Table(
    "external_customers",
    metadata,
    Column("customer_id", String(26), ForeignKey("customers.id"), primary_key=True),
    Column("namespace", text(), nullable=False),
    Column("labels", JSON, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
)
