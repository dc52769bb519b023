"""Credit notes, refunds, and periods that were rated again: what puts final invoices right.

The invoices themselves are `invoices.py`'s, and stay as they are.
"""

from sqlalchemy import Boolean, Column, ForeignKey, Index, Integer, String, Table, Text, and_, not_

from tallyman.store.tables.columns import DOCUMENT, UtcDateTime, metadata, text

# Amounts are decimals as text.
credit_notes = Table(
    "credit_notes",
    metadata,
    Column("id", String(26), primary_key=True),
    Column("namespace", text(), nullable=False),
    Column("number", text(), nullable=False),
    Column("invoice_id", String(26), ForeignKey("invoices.id"), nullable=False),
    Column("invoice_number", text(), nullable=False),
    Column("customer_id", String(26), nullable=False),
    Column("currency", String(3), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("reason", text(), nullable=False),
    Column("actor", text(), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("was_paid", Boolean, nullable=False),
    Column("key", text()),
    Column("counting", DOCUMENT),
    Column("watermark", UtcDateTime),
    Column("voided_at", UtcDateTime),
    Column("external_id", text()),
)
Index("credit_notes_number", credit_notes.c.namespace, credit_notes.c.number, unique=True)
Index("credit_notes_key", credit_notes.c.namespace, credit_notes.c.key, unique=True)
Index("credit_notes_of_invoice", credit_notes.c.invoice_id)

# `body` is a correction's line as JSON, which counts as billed with its version until it is freed.
credit_note_lines = Table(
    "credit_note_lines",
    metadata,
    Column("credit_note_id", String(26), ForeignKey("credit_notes.id"), primary_key=True),
    Column("id", String(26), primary_key=True),
    Column("position", Integer, nullable=False),
    Column("invoice_line_id", String(26), nullable=False),
    Column("billable_id", String(26), nullable=False),
    Column("version", Integer),
    Column("freed", Boolean, nullable=False),
    Column("name", text(), nullable=False),
    Column("service_from", UtcDateTime, nullable=False),
    Column("service_to", UtcDateTime, nullable=False),
    Column("amount", text(), nullable=False),
    Column("body", Text),
)
_COUNTS = and_(not_(credit_note_lines.c.freed), credit_note_lines.c.version.is_not(None))
Index(
    "credit_note_lines_once",
    credit_note_lines.c.billable_id,
    credit_note_lines.c.version,
    unique=True,
    sqlite_where=_COUNTS,
    postgresql_where=_COUNTS,
)
Index("credit_note_lines_of_billable", credit_note_lines.c.billable_id)

refunds = Table(
    "refunds",
    metadata,
    Column("id", String(26), primary_key=True),
    Column("namespace", text(), nullable=False),
    Column("invoice_id", String(26), ForeignKey("invoices.id"), nullable=False),
    Column("credit_note_id", String(26), ForeignKey("credit_notes.id")),
    Column("customer_id", String(26), nullable=False),
    Column("currency", String(3), nullable=False),
    Column("amount", text(), nullable=False),
    Column("reason", text(), nullable=False),
    Column("actor", text(), nullable=False),
    Column("state", String(16), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    Column("key", text()),
    Column("external_id", text()),
)
Index("refunds_key", refunds.c.namespace, refunds.c.key, unique=True)
Index("refunds_of_invoice", refunds.c.invoice_id)

# What was billed of a customer's service periods that begin in [from, to) is rated by other prices.
re_ratings = Table(
    "re_ratings",
    metadata,
    Column("id", String(26), primary_key=True),
    Column("namespace", text(), nullable=False),
    Column("customer_id", String(26), nullable=False),
    Column("period_from", UtcDateTime, nullable=False),
    Column("period_to", UtcDateTime, nullable=False),
    Column("reason", text(), nullable=False),
    Column("actor", text(), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
)
Index("re_ratings_of_customer", re_ratings.c.customer_id, re_ratings.c.created_at)

# The rate card as JSON, by which each billable is rated from then on; the newest counts.
re_rated_billables = Table(
    "re_rated_billables",
    metadata,
    Column("re_rating_id", String(26), ForeignKey("re_ratings.id"), primary_key=True),
    Column("billable_id", String(26), primary_key=True),
    Column("number", Integer, nullable=False),
    Column("customer_id", String(26), nullable=False),
    Column("rate_card", Text, nullable=False),
)
Index("re_rated_billables_of_customer", re_rated_billables.c.customer_id)
# Of two that re-rate at once one does.
Index(
    "re_rated_billables_once",
    re_rated_billables.c.billable_id,
    re_rated_billables.c.number,
    unique=True,
)
