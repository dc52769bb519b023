"""Customers and their subjects."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def _text() -> sa.Text:
    return sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def _time(name: str, *, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def upgrade() -> None:
    op.create_table(
        "customers",
        sa.Column("id", sa.String(26), primary_key=True),
        sa.Column("namespace", _text(), nullable=False),
        sa.Column("key", _text(), nullable=False),
        sa.Column("name", _text(), nullable=False),
        sa.Column("description", _text()),
        sa.Column("labels", sa.JSON, nullable=False),
        sa.Column("primary_email", _text()),
        sa.Column("currency", sa.String(3)),
        sa.Column("billing_address", sa.JSON),
        sa.Column("billing_profile_id", sa.String(26)),
        _time("created_at"),
        _time("updated_at"),
        _time("deleted_at", nullable=True),
    )
    _unique("customers_key", "customers", ["namespace", "key"], "deleted_at IS NULL")
    op.create_table(
        "customer_subjects",
        sa.Column("id", sa.String(26), primary_key=True),
        sa.Column("namespace", _text(), nullable=False),
        sa.Column("customer_id", sa.String(26), sa.ForeignKey("customers.id"), nullable=False),
        sa.Column("subject", _text(), nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        _time("effective_from", nullable=True),
        _time("claimed_at"),
        _time("released_at", nullable=True),
    )
    op.create_index("customer_subjects_of_customer", "customer_subjects", ["customer_id"])
    op.create_index("customer_subjects_of_subject", "customer_subjects", ["namespace", "subject"])
    _unique(
        "customer_subjects_one_owner",
        "customer_subjects",
        ["namespace", "subject"],
        "released_at IS NULL",
    )


def downgrade() -> None:
    op.drop_table("customer_subjects")
    op.drop_table("customers")


def _unique(name: str, table: str, columns: list[str], where: str) -> None:
    op.create_index(
        name,
        table,
        columns,
        unique=True,
        sqlite_where=sa.text(where),
        postgresql_where=sa.text(where),
    )
