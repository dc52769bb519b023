"""Who sends the invoices of a profile, and how far customers and invoices are at Stripe."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

WAITING = "app = 'stripe' AND state IN ('issuing.syncing', 'delete.syncing')"


def _text() -> sa.Text:
    return sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def _time(name: str, *, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def upgrade() -> None:
    for table in ("billing_profiles", "invoices"):
        app = sa.Column("app", sa.String(24), nullable=False, server_default="sandbox")
        op.add_column(table, app)
    op.create_index(
        "invoices_for_stripe",
        "invoices",
        ["namespace", "id"],
        sqlite_where=sa.text(WAITING),
        postgresql_where=sa.text(WAITING),
    )
    op.create_table(
        "stripe_customers",
        sa.Column("customer_id", sa.String(26), sa.ForeignKey("customers.id"), primary_key=True),
        sa.Column("namespace", _text(), nullable=False),
        sa.Column("stripe_id", _text()),
        sa.Column("default_payment_method_id", _text()),
        sa.Column("labels", sa.JSON, nullable=False),
        sa.Column("generation", sa.Integer, nullable=False),
        _time("attempted_at", nullable=True),
        _time("created_at"),
        _time("updated_at"),
    )
    op.create_index("stripe_customers_stripe_id", "stripe_customers", ["stripe_id"], unique=True)
    op.create_table(
        "stripe_invoices",
        sa.Column("invoice_id", sa.String(26), sa.ForeignKey("invoices.id"), primary_key=True),
        sa.Column("namespace", _text(), nullable=False),
        sa.Column("stripe_id", _text()),
        sa.Column("generation", sa.Integer, nullable=False),
        _time("attempted_at", nullable=True),
        sa.Column("round", sa.Integer, nullable=False),
        _time("asked_at", nullable=True),
        sa.Column("failures", sa.Integer, nullable=False),
        sa.Column("last_error", _text()),
        _time("work_at", nullable=True),
        _time("claimed_until", nullable=True),
        sa.Column("hints", sa.Integer, nullable=False),
        _time("created_at"),
        _time("updated_at"),
    )
    op.create_index("stripe_invoices_stripe_id", "stripe_invoices", ["stripe_id"], unique=True)
    op.create_index("stripe_invoices_work", "stripe_invoices", ["namespace", "work_at"])
    op.create_table(
        "stripe_events",
        sa.Column("id", sa.String(255), primary_key=True),
        sa.Column("namespace", _text(), nullable=False),
        sa.Column("type", _text(), nullable=False),
        sa.Column("stripe_id", _text()),
        _time("created_at"),
        _time("received_at"),
    )


def downgrade() -> None:
    for table in ("stripe_events", "stripe_invoices", "stripe_customers"):
        op.drop_table(table)
    op.drop_index("invoices_for_stripe", "invoices")
    for table in ("billing_profiles", "invoices"):
        op.drop_column(table, "app")
