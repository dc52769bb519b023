"""Features, plans and the audit log."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def _text() -> sa.Text:
    return sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "features",
        sa.Column("id", sa.String(26), primary_key=True),
        sa.Column("namespace", _text(), nullable=False),
        sa.Column("key", _text(), nullable=False),
        sa.Column("name", _text(), nullable=False),
        sa.Column("description", _text()),
        sa.Column("labels", sa.JSON, nullable=False),
        sa.Column("meter_id", sa.String(26)),
        sa.Column("filters", sa.JSON),
        sa.Column("unit_cost", sa.JSON),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("deleted_at", sa.DateTime(timezone=True)),
    )
    op.create_index(
        "features_key",
        "features",
        ["namespace", "key"],
        unique=True,
        sqlite_where=sa.text("deleted_at IS NULL"),
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.create_table(
        "plans",
        sa.Column("id", sa.String(26), primary_key=True),
        sa.Column("namespace", _text(), nullable=False),
        sa.Column("key", _text(), nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("name", _text(), nullable=False),
        sa.Column("description", _text()),
        sa.Column("labels", sa.JSON, nullable=False),
        sa.Column("currency", _text(), nullable=False),
        sa.Column("billing_cadence", sa.String(64), nullable=False),
        sa.Column("pro_rating_enabled", sa.Boolean, nullable=False),
        sa.Column("settlement_mode", sa.String(32)),
        sa.Column("phases", sa.JSON, nullable=False),
        sa.Column("effective_from", sa.DateTime(timezone=True)),
        sa.Column("effective_to", sa.DateTime(timezone=True)),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("deleted_at", sa.DateTime(timezone=True)),
    )
    op.create_index("plans_version", "plans", ["namespace", "key", "version"], unique=True)
    op.create_table(
        "audit_log",
        sa.Column("id", sa.String(26), primary_key=True),
        sa.Column("namespace", _text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("actor", _text(), nullable=False),
        sa.Column("action", sa.String(32), nullable=False),
        sa.Column("entity", sa.String(32), nullable=False),
        sa.Column("entity_id", _text(), nullable=False),
        sa.Column("before", sa.JSON),
        sa.Column("after", sa.JSON),
    )
    op.create_index("audit_log_entity", "audit_log", ["namespace", "entity", "entity_id"])


def downgrade() -> None:
    op.drop_table("audit_log")
    op.drop_table("plans")
    op.drop_table("features")
