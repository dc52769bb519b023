"""Sandboxes and their test clocks."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def _text() -> sa.Text:
    return sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def _time(name: str, *, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def upgrade() -> None:
    op.create_table(
        "sandboxes",
        sa.Column("namespace", _text(), primary_key=True),
        _time("created_at"),
    )
    op.create_table(
        "test_clocks",
        sa.Column("id", sa.String(26), primary_key=True),
        sa.Column(
            "namespace", _text(), sa.ForeignKey("sandboxes.namespace"), nullable=False, unique=True
        ),
        sa.Column("name", _text()),
        _time("frozen_time"),
        _time("advancing_to", nullable=True),
        _time("created_at"),
        _time("updated_at"),
    )


def downgrade() -> None:
    op.drop_table("test_clocks")
    op.drop_table("sandboxes")
