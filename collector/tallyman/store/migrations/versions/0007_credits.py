"""Credit grants, and the ledger of what became of them."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_LEDGER = ("credit_transactions", "credit_entries")


def _text() -> sa.Text:
    return sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def _time(name: str, *, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def upgrade() -> None:
    _grants()
    _transactions()
    _entries()
    for table in _LEDGER:
        _only_added_to(table)


def _grants() -> None:
    op.create_table(
        "credit_grants",
        sa.Column("id", sa.String(26), primary_key=True),
        sa.Column("namespace", _text(), nullable=False),
        sa.Column("customer_id", sa.String(26), nullable=False),
        sa.Column("currency", sa.String(3), nullable=False),
        sa.Column("amount", sa.BigInteger, nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("name", _text(), nullable=False),
        sa.Column("description", _text()),
        sa.Column("labels", sa.JSON, nullable=False),
        sa.Column("funding_method", sa.String(16), nullable=False),
        sa.Column("purchase", sa.JSON),
        sa.Column("waits", sa.Boolean, nullable=False),
        sa.Column("tax_config", sa.JSON),
        sa.Column("features", sa.JSON, nullable=False),
        sa.Column("priority", sa.Integer, nullable=False),
        _time("effective_at"),
        _time("expires_at", nullable=True),
        _time("voided_at", nullable=True),
        sa.Column("key", _text()),
        _time("created_at"),
        _time("updated_at"),
    )
    op.create_index("credit_grants_of_customer", "credit_grants", ["customer_id", "created_at"])
    op.create_index(
        "credit_grants_key",
        "credit_grants",
        ["customer_id", "key"],
        unique=True,
        sqlite_where=sa.text("key IS NOT NULL"),
        postgresql_where=sa.text("key IS NOT NULL"),
    )


def _transactions() -> None:
    op.create_table(
        "credit_transactions",
        sa.Column("id", sa.String(26), primary_key=True),
        sa.Column("namespace", _text(), nullable=False),
        sa.Column("customer_id", sa.String(26), nullable=False),
        sa.Column("currency", sa.String(3), nullable=False),
        sa.Column("sequence", sa.Integer, nullable=False),
        sa.Column("type", sa.String(16), nullable=False),
        sa.Column("name", _text(), nullable=False),
        sa.Column("description", _text()),
        sa.Column("labels", sa.JSON, nullable=False),
        sa.Column("invoice_id", sa.String(26)),
        sa.Column("amount", sa.BigInteger, nullable=False),
        sa.Column("available", sa.BigInteger, nullable=False),
        _time("booked_at"),
        sa.CheckConstraint("available >= 0", name="credit_transactions_not_negative"),
    )
    op.create_index(
        "credit_transactions_sequence",
        "credit_transactions",
        ["customer_id", "sequence"],
        unique=True,
    )
    op.create_index("credit_transactions_of_invoice", "credit_transactions", ["invoice_id"])


def _entries() -> None:
    op.create_table(
        "credit_entries",
        sa.Column(
            "transaction_id",
            sa.String(26),
            sa.ForeignKey("credit_transactions.id"),
            primary_key=True,
        ),
        sa.Column("position", sa.Integer, primary_key=True),
        sa.Column("grant_id", sa.String(26), sa.ForeignKey("credit_grants.id"), nullable=False),
        sa.Column("from_account", sa.String(16), nullable=False),
        sa.Column("to_account", sa.String(16), nullable=False),
        sa.Column("amount", sa.BigInteger, nullable=False),
        sa.Column("billable_id", sa.String(26)),
        sa.Column("line_id", sa.String(26)),
        sa.CheckConstraint("amount > 0", name="credit_entries_amount"),
        sa.CheckConstraint("from_account <> to_account", name="credit_entries_accounts"),
    )
    op.create_index("credit_entries_of_grant", "credit_entries", ["grant_id"])
    op.create_index("credit_entries_of_billable", "credit_entries", ["billable_id"])


def _only_added_to(table: str) -> None:
    """Let the database itself refuse to change or delete what is booked."""
    if op.get_bind().dialect.name == "sqlite":
        for event in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER {table}_no_{event.lower()} BEFORE {event} ON {table} "
                "BEGIN SELECT RAISE(ABORT, 'the ledger of credit is only added to'); END"
            )
        return
    op.execute(
        f"CREATE FUNCTION {table}_only_added_to() RETURNS trigger AS $$ BEGIN "
        "RAISE EXCEPTION 'the ledger of credit is only added to'; END $$ LANGUAGE plpgsql"
    )
    op.execute(
        f"CREATE TRIGGER {table}_only_added_to BEFORE UPDATE OR DELETE ON {table} "
        f"FOR EACH ROW EXECUTE FUNCTION {table}_only_added_to()"
    )


def downgrade() -> None:
    for table in ("credit_entries", "credit_transactions", "credit_grants"):
        op.drop_table(table)
    if op.get_bind().dialect.name == "postgresql":
        for table in _LEDGER:
            op.execute(f"DROP FUNCTION {table}_only_added_to()")
