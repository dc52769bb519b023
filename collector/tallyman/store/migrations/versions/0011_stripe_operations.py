"""Credit notes, refunds and top-ups that Stripe is asked for, and what hints at invoices and customers."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def _text() -> sa.Text:
    return sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def _time(name: str, *, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def upgrade() -> None:
    op.add_column("stripe_customers", _time("look_at", nullable=True))
    op.add_column("stripe_invoices", sa.Column("payment_id", _text()))
    op.create_index("stripe_invoices_payment_id", "stripe_invoices", ["payment_id"])
    op.create_table(
        "stripe_operations",
        sa.Column("id", sa.String(26), primary_key=True),
        sa.Column("namespace", _text(), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("customer_id", sa.String(26), sa.ForeignKey("customers.id"), nullable=False),
        sa.Column("currency", sa.String(3), nullable=False),
        sa.Column("lines", sa.JSON, nullable=False),
        sa.Column("invoice_id", sa.String(26), sa.ForeignKey("invoices.id")),
        sa.Column("top_up_id", sa.String(26), sa.ForeignKey("stripe_operations.id")),
        sa.Column("returned", sa.String(16), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("is_canceling", sa.Boolean, nullable=False),
        sa.Column("stripe_id", _text()),
        sa.Column("payment_id", _text()),
        sa.Column("said", _text()),
        sa.Column("generation", sa.Integer, nullable=False),
        _time("attempted_at", nullable=True),
        sa.Column("round", sa.Integer, nullable=False),
        _time("asked_at", nullable=True),
        sa.Column("failures", sa.Integer, nullable=False),
        _time("work_at", nullable=True),
        _time("claimed_until", nullable=True),
        sa.Column("hints", sa.Integer, nullable=False),
        _time("created_at"),
        _time("updated_at"),
    )
    op.create_index("stripe_operations_stripe_id", "stripe_operations", ["stripe_id"], unique=True)
    op.create_index("stripe_operations_payment_id", "stripe_operations", ["payment_id"])
    op.create_index("stripe_operations_of_invoice", "stripe_operations", ["invoice_id"])
    op.create_index("stripe_operations_work", "stripe_operations", ["namespace", "work_at"])


def downgrade() -> None:
    op.drop_table("stripe_operations")
    op.drop_index("stripe_invoices_payment_id", "stripe_invoices")
    op.drop_column("stripe_invoices", "payment_id")
    op.drop_column("stripe_customers", "look_at")
