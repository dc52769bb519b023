"""Billing profiles, invoices and their lines."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def _text() -> sa.Text:
    return sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def _time(name: str, *, nullable: bool = True) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def _index(name: str, table: str, columns: list[str], where: str, *, unique: bool) -> None:
    condition = sa.text(where)
    op.create_index(
        name,
        table,
        columns,
        unique=unique,
        sqlite_where=condition,
        postgresql_where=condition,
    )


def upgrade() -> None:
    _create_profiles()
    _create_invoices()
    _create_lines()
    op.create_table(
        "billing_progress",
        sa.Column("subscription_id", sa.String(26), primary_key=True),
        sa.Column("customer_id", sa.String(26), nullable=False),
        _time("billed_until", nullable=False),
        _time("corrected_until"),
        _time("next_due_at"),
        _time("as_of"),
    )
    op.create_index("billing_progress_of_customer", "billing_progress", ["customer_id"])
    op.create_table(
        "invoice_numbers",
        sa.Column("namespace", _text(), primary_key=True),
        sa.Column("last", sa.Integer, nullable=False),
    )


def _create_profiles() -> None:
    op.create_table(
        "billing_profiles",
        sa.Column("id", sa.String(26), primary_key=True),
        sa.Column("namespace", _text(), nullable=False),
        sa.Column("name", _text(), nullable=False),
        sa.Column("description", _text()),
        sa.Column("labels", sa.JSON, nullable=False),
        sa.Column("supplier", sa.JSON, nullable=False),
        sa.Column("workflow", sa.JSON, nullable=False),
        sa.Column("is_default", sa.Boolean, nullable=False),
        _time("created_at", nullable=False),
        _time("updated_at", nullable=False),
        _time("deleted_at"),
    )
    default = "is_default AND deleted_at IS NULL"
    _index("billing_profiles_default", "billing_profiles", ["namespace"], default, unique=True)


def _create_invoices() -> None:
    documents = ("totals", "customer", "supplier", "workflow", "validation_issues", "labels")
    times = ["watermark", "quantity_snapshotted_at", "wakes_at", "collection_at", "draft_until"]
    times += ["issued_at", "due_at", "sent_to_customer_at", "paid_at", "voided_at", "deleted_at"]
    op.create_table(
        "invoices",
        sa.Column("id", sa.String(26), primary_key=True),
        sa.Column("namespace", _text(), nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("number", _text(), nullable=False),
        sa.Column("customer_id", sa.String(26), nullable=False),
        sa.Column("currency", sa.String(3), nullable=False),
        sa.Column("state", sa.String(48), nullable=False),
        sa.Column("status", sa.String(24), nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        *(_time(name, nullable=False) for name in ("invoice_at", "service_from", "service_to")),
        *(sa.Column(name, sa.JSON, nullable=False) for name in documents),
        sa.Column("counting", sa.JSON),
        *(_time(name) for name in times),
        sa.Column("billing_profile_id", sa.String(26)),
        sa.Column("external_invoicing_id", _text()),
        sa.Column("external_payment_id", _text()),
        sa.Column("description", _text()),
        _time("created_at", nullable=False),
        _time("updated_at", nullable=False),
    )
    op.create_index("invoices_number", "invoices", ["namespace", "number"], unique=True)
    by_customer = ["namespace", "customer_id", "invoice_at"]
    op.create_index("invoices_of_customer", "invoices", by_customer)
    _index("invoices_waking", "invoices", ["wakes_at"], "wakes_at IS NOT NULL", unique=False)


def _create_lines() -> None:
    op.create_table(
        "invoice_lines",
        sa.Column("invoice_id", sa.String(26), sa.ForeignKey("invoices.id"), primary_key=True),
        sa.Column("id", sa.String(26), primary_key=True),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("customer_id", sa.String(26), nullable=False),
        sa.Column("subscription_id", sa.String(26), nullable=False),
        sa.Column("billable_id", sa.String(26), nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("freed", sa.Boolean, nullable=False),
        _time("service_from", nullable=False),
        _time("service_to", nullable=False),
        sa.Column("body", sa.Text, nullable=False),
    )
    once = ["billable_id", "version"]
    _index("invoice_lines_once", "invoice_lines", once, "NOT freed", unique=True)
    by_customer = ["customer_id", "service_to"]
    op.create_index("invoice_lines_of_customer", "invoice_lines", by_customer)


def downgrade() -> None:
    for table in ("invoice_numbers", "billing_progress", "invoice_lines", "invoices"):
        op.drop_table(table)
    op.drop_table("billing_profiles")
