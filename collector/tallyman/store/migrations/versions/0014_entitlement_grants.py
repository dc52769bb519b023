"""Grants and overrides of entitlements."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

_OWNER = ["subscription_id", "feature_key"]


def _text() -> sa.Text:
    return sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def _time(name: str, *, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def _owner() -> list[sa.Column[object]]:
    return [
        sa.Column("id", sa.String(26), primary_key=True),
        sa.Column("namespace", _text(), nullable=False),
        sa.Column(
            "subscription_id", sa.String(26), sa.ForeignKey("subscriptions.id"), nullable=False
        ),
        sa.Column("feature_key", _text(), nullable=False),
    ]


def upgrade() -> None:
    op.create_table(
        "entitlement_grants",
        *_owner(),
        sa.Column("amount", _text(), nullable=False),
        sa.Column("priority", sa.Integer, nullable=False),
        _time("effective_at"),
        _time("expires_at", nullable=True),
        _time("voided_at", nullable=True),
        sa.Column("min_rollover", _text(), nullable=False),
        sa.Column("max_rollover", _text(), nullable=False),
        sa.Column("metadata", sa.JSON, nullable=False),
        sa.Column("expiration", sa.JSON),
        _time("created_at"),
        _time("updated_at"),
    )
    op.create_index("entitlement_grants_of_subscription", "entitlement_grants", _OWNER)
    op.create_table(
        "entitlement_overrides",
        *_owner(),
        _time("effective_at"),
        sa.Column("limit", _text()),
        sa.Column("is_soft_limit", sa.Boolean, nullable=False),
        _time("created_at"),
    )
    op.create_index("entitlement_overrides_of_subscription", "entitlement_overrides", _OWNER)


def downgrade() -> None:
    op.drop_table("entitlement_overrides")
    op.drop_table("entitlement_grants")
