"""Subscriptions, and resets of entitlements."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def _text() -> sa.Text:
    return sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def _time(name: str, *, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def upgrade() -> None:
    op.create_table(
        "subscriptions",
        sa.Column("id", sa.String(26), primary_key=True),
        sa.Column("namespace", _text(), nullable=False),
        sa.Column("customer_id", sa.String(26), nullable=False),
        sa.Column("plan_id", sa.String(26), sa.ForeignKey("plans.id"), nullable=False),
        sa.Column("plan_key", _text(), nullable=False),
        _time("billing_anchor"),
        _time("active_from"),
        _time("active_to", nullable=True),
        sa.Column("settlement_mode", sa.String(32)),
        sa.Column("labels", sa.JSON, nullable=False),
        _time("created_at"),
        _time("updated_at"),
        _time("deleted_at", nullable=True),
    )
    op.create_index("subscriptions_of_customer", "subscriptions", ["customer_id", "active_from"])
    op.create_index("subscriptions_by_namespace", "subscriptions", ["namespace", "created_at"])
    op.create_index(
        "subscriptions_one_open",
        "subscriptions",
        ["customer_id"],
        unique=True,
        sqlite_where=sa.text("active_to IS NULL AND deleted_at IS NULL"),
        postgresql_where=sa.text("active_to IS NULL AND deleted_at IS NULL"),
    )
    op.create_table(
        "entitlement_resets",
        sa.Column("id", sa.String(26), primary_key=True),
        sa.Column("namespace", _text(), nullable=False),
        sa.Column(
            "subscription_id", sa.String(26), sa.ForeignKey("subscriptions.id"), nullable=False
        ),
        sa.Column("feature_key", _text(), nullable=False),
        _time("effective_at"),
        sa.Column("retain_anchor", sa.Boolean, nullable=False),
        sa.Column("carried_overage", _text(), nullable=False),
        _time("created_at"),
    )
    op.create_index(
        "entitlement_resets_of_subscription",
        "entitlement_resets",
        ["subscription_id", "feature_key", "effective_at"],
    )


def downgrade() -> None:
    op.drop_table("entitlement_resets")
    op.drop_table("subscriptions")
