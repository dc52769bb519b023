"""The apps of each namespace, and what customers are to external invoicing."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def _text() -> sa.Text:
    return sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def _time(name: str) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=False)


def upgrade() -> None:
    op.create_table(
        "installed_apps",
        sa.Column("namespace", _text(), primary_key=True),
        sa.Column("app", sa.String(24), primary_key=True),
        sa.Column("name", _text(), nullable=False),
        sa.Column("description", _text()),
        sa.Column("labels", sa.JSON, nullable=False),
        sa.Column("waits_in_draft", sa.Boolean, nullable=False),
        sa.Column("waits_to_issue", sa.Boolean, nullable=False),
        _time("created_at"),
        _time("updated_at"),
    )
    op.create_table(
        "external_customers",
        sa.Column("customer_id", sa.String(26), sa.ForeignKey("customers.id"), primary_key=True),
        sa.Column("namespace", _text(), nullable=False),
        sa.Column("labels", sa.JSON, nullable=False),
        _time("updated_at"),
    )


def downgrade() -> None:
    for table in ("external_customers", "installed_apps"):
        op.drop_table(table)
