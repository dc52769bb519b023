"""Credit notes, refunds, and periods rated again."""

from datetime import datetime

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

_TIME = sa.DateTime(timezone=True)


def _text() -> sa.Text:
    return sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def _named(*names: str, nullable: bool = False) -> list[sa.Column[str]]:
    return [sa.Column(name, _text(), nullable=nullable) for name in names]


def _times(*names: str, nullable: bool = False) -> list[sa.Column[datetime]]:
    return [sa.Column(name, _TIME, nullable=nullable) for name in names]


def _ids(*names: str) -> list[sa.Column[str]]:
    return [sa.Column(name, sa.String(26), nullable=False) for name in names]


def upgrade() -> None:
    document = sa.JSON(none_as_null=True)
    op.create_table(
        "credit_notes",
        sa.Column("id", sa.String(26), primary_key=True),
        *_named("namespace", "number"),
        sa.Column("invoice_id", sa.String(26), sa.ForeignKey("invoices.id"), nullable=False),
        *_named("invoice_number"),
        *_ids("customer_id"),
        sa.Column("currency", sa.String(3), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        *_named("reason", "actor"),
        *_times("created_at"),
        sa.Column("was_paid", sa.Boolean, nullable=False),
        *_named("key", nullable=True),
        sa.Column("counting", document),
        *_times("watermark", "voided_at", nullable=True),
        *_named("external_id", nullable=True),
    )
    op.create_index("credit_notes_number", "credit_notes", ["namespace", "number"], unique=True)
    op.create_index("credit_notes_key", "credit_notes", ["namespace", "key"], unique=True)
    op.create_index("credit_notes_of_invoice", "credit_notes", ["invoice_id"])
    note = sa.ForeignKey("credit_notes.id")
    op.create_table(
        "credit_note_lines",
        sa.Column("credit_note_id", sa.String(26), note, primary_key=True),
        sa.Column("id", sa.String(26), primary_key=True),
        sa.Column("position", sa.Integer, nullable=False),
        *_ids("invoice_line_id", "billable_id"),
        sa.Column("version", sa.Integer),
        sa.Column("freed", sa.Boolean, nullable=False),
        *_named("name"),
        *_times("service_from", "service_to"),
        *_named("amount"),
        sa.Column("body", sa.Text),
    )
    counts = sa.text("NOT freed AND version IS NOT NULL")
    op.create_index(
        "credit_note_lines_once",
        "credit_note_lines",
        ["billable_id", "version"],
        unique=True,
        sqlite_where=counts,
        postgresql_where=counts,
    )
    op.create_index("credit_note_lines_of_billable", "credit_note_lines", ["billable_id"])
    _refunds()
    _re_ratings()


def _refunds() -> None:
    op.create_table(
        "refunds",
        sa.Column("id", sa.String(26), primary_key=True),
        *_named("namespace"),
        sa.Column("invoice_id", sa.String(26), sa.ForeignKey("invoices.id"), nullable=False),
        sa.Column("credit_note_id", sa.String(26), sa.ForeignKey("credit_notes.id")),
        *_ids("customer_id"),
        sa.Column("currency", sa.String(3), nullable=False),
        *_named("amount", "reason", "actor"),
        sa.Column("state", sa.String(16), nullable=False),
        *_times("created_at", "updated_at"),
        *_named("key", "external_id", nullable=True),
    )
    op.create_index("refunds_key", "refunds", ["namespace", "key"], unique=True)
    op.create_index("refunds_of_invoice", "refunds", ["invoice_id"])


def _re_ratings() -> None:
    op.create_table(
        "re_ratings",
        sa.Column("id", sa.String(26), primary_key=True),
        *_named("namespace"),
        *_ids("customer_id"),
        *_times("period_from", "period_to"),
        *_named("reason", "actor"),
        *_times("created_at"),
    )
    op.create_index("re_ratings_of_customer", "re_ratings", ["customer_id", "created_at"])
    op.create_table(
        "re_rated_billables",
        sa.Column("re_rating_id", sa.String(26), sa.ForeignKey("re_ratings.id"), primary_key=True),
        sa.Column("billable_id", sa.String(26), primary_key=True),
        sa.Column("number", sa.Integer, nullable=False),
        *_ids("customer_id"),
        sa.Column("rate_card", sa.Text, nullable=False),
    )
    op.create_index("re_rated_billables_of_customer", "re_rated_billables", ["customer_id"])
    op.create_index(
        "re_rated_billables_once", "re_rated_billables", ["billable_id", "number"], unique=True
    )


def downgrade() -> None:
    for table in ("re_rated_billables", "re_ratings", "refunds"):
        op.drop_table(table)
    op.drop_table("credit_note_lines")
    op.drop_table("credit_notes")
