"""The tables of credit: grants, and the ledger of what became of them.

Amounts are integers, in minor units of the currency, so that both databases sum them exactly. The two
tables of the ledger are only ever added to: triggers of the migration refuse anything else.
"""

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
)

from tallyman.store.tables.columns import DOCUMENT, UtcDateTime, metadata, text

credit_grants = Table(
    "credit_grants",
    metadata,
    Column("id", String(26), primary_key=True),
    Column("namespace", text(), nullable=False),
    Column("customer_id", String(26), nullable=False),
    Column("currency", String(3), nullable=False),
    Column("amount", BigInteger, nullable=False),
    Column("kind", String(16), nullable=False),
    Column("name", text(), nullable=False),
    Column("description", text()),
    Column("labels", JSON, nullable=False),
    Column("funding_method", String(16), nullable=False),
    Column("purchase", DOCUMENT),
    Column("waits", Boolean, nullable=False),
    Column("tax_config", DOCUMENT),
    Column("features", JSON, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("effective_at", UtcDateTime, nullable=False),
    Column("expires_at", UtcDateTime),
    Column("voided_at", UtcDateTime),
    Column("key", text()),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
)
Index("credit_grants_of_customer", credit_grants.c.customer_id, credit_grants.c.created_at)
# Whoever asks for a grant again, by the same key, gets no second one.
Index(
    "credit_grants_key",
    credit_grants.c.customer_id,
    credit_grants.c.key,
    unique=True,
    sqlite_where=credit_grants.c.key.is_not(None),
    postgresql_where=credit_grants.c.key.is_not(None),
)

# `sequence` counts a customer's transactions without a gap; `amount` is what each changes
# of what is available, and `available` what it leaves.
credit_transactions = Table(
    "credit_transactions",
    metadata,
    Column("id", String(26), primary_key=True),
    Column("namespace", text(), nullable=False),
    Column("customer_id", String(26), nullable=False),
    Column("currency", String(3), nullable=False),
    Column("sequence", Integer, nullable=False),
    Column("type", String(16), nullable=False),
    Column("name", text(), nullable=False),
    Column("description", text()),
    Column("labels", JSON, nullable=False),
    Column("invoice_id", String(26)),
    Column("amount", BigInteger, nullable=False),
    Column("available", BigInteger, nullable=False),
    Column("booked_at", UtcDateTime, nullable=False),
    CheckConstraint("available >= 0", name="credit_transactions_not_negative"),
)
Index(
    "credit_transactions_sequence",
    credit_transactions.c.customer_id,
    credit_transactions.c.sequence,
    unique=True,
)
Index("credit_transactions_of_invoice", credit_transactions.c.invoice_id)

# An entry moves its amount from one account to another: there is none that does not sum to zero.
credit_entries = Table(
    "credit_entries",
    metadata,
    Column("transaction_id", String(26), ForeignKey("credit_transactions.id"), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("grant_id", String(26), ForeignKey("credit_grants.id"), nullable=False),
    Column("from_account", String(16), nullable=False),
    Column("to_account", String(16), nullable=False),
    Column("amount", BigInteger, nullable=False),
    Column("billable_id", String(26)),
    Column("line_id", String(26)),
    CheckConstraint("amount > 0", name="credit_entries_amount"),
    CheckConstraint("from_account <> to_account", name="credit_entries_accounts"),
)
Index("credit_entries_of_grant", credit_entries.c.grant_id)
Index("credit_entries_of_billable", credit_entries.c.billable_id)

# Below `threshold` of live credit `amount` is bought, up to `most_per_month`; in minor units.
credit_top_ups = Table(
    "credit_top_ups",
    metadata,
    Column("customer_id", String(26), primary_key=True),
    Column("currency", String(3), primary_key=True),
    Column("namespace", text(), nullable=False),
    Column("threshold", BigInteger, nullable=False),
    Column("amount", BigInteger, nullable=False),
    Column("most_per_month", BigInteger, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
)
