"""Changes of events."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def _text() -> sa.Text:
    return sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "event_changes",
        sa.Column("id", sa.String(26), primary_key=True),
        sa.Column("namespace", _text(), nullable=False),
        sa.Column("source", _text(), nullable=False),
        sa.Column("event_id", _text(), nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("actor", _text(), nullable=False),
        sa.Column("reason", _text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ingested_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("before", sa.Text, nullable=False),
        sa.Column("after", sa.Text),
        sa.Column("stored_at", sa.DateTime(timezone=True)),
    )
    op.create_index(
        "event_changes_once",
        "event_changes",
        ["namespace", "source", "event_id", "revision"],
        unique=True,
    )


def downgrade() -> None:
    op.drop_table("event_changes")
