"""Meters and API keys."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def _text() -> sa.Text:
    return sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "meters",
        sa.Column("id", sa.String(26), primary_key=True),
        sa.Column("namespace", _text(), nullable=False),
        sa.Column("key", _text(), nullable=False),
        sa.Column("name", _text(), nullable=False),
        sa.Column("description", _text()),
        sa.Column("labels", sa.JSON, nullable=False),
        sa.Column("aggregation", sa.String(16), nullable=False),
        sa.Column("event_type", _text(), nullable=False),
        sa.Column("value_property", _text()),
        sa.Column("dimensions", sa.JSON, nullable=False),
        sa.Column("events_from", sa.DateTime(timezone=True)),
        sa.Column("only_dimension", _text()),
        sa.Column("only_value", _text()),
        sa.Column("built_in", sa.Boolean, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("deleted_at", sa.DateTime(timezone=True)),
    )
    op.create_index(
        "meters_key",
        "meters",
        ["namespace", "key"],
        unique=True,
        sqlite_where=sa.text("deleted_at IS NULL"),
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.create_table(
        "api_keys",
        sa.Column("id", sa.String(26), primary_key=True),
        sa.Column("namespace", _text(), nullable=False),
        sa.Column("name", _text(), nullable=False),
        sa.Column("hint", sa.String(16), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False, unique=True),
        sa.Column("scopes", sa.JSON, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("revoked_at", sa.DateTime(timezone=True)),
    )


def downgrade() -> None:
    op.drop_table("api_keys")
    op.drop_table("meters")
