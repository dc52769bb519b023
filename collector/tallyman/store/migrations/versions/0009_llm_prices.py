"""What models cost, and the prices that wait for a decision."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def _text(name: str, *, nullable: bool = False) -> sa.Column[object]:
    kind = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
    return sa.Column(name, kind, nullable=nullable)


def _time(name: str, *, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def upgrade() -> None:
    op.create_table(
        "llm_prices",
        sa.Column("id", sa.String(26), primary_key=True),
        _text("namespace"),
        _text("provider_id"),
        _text("provider_name"),
        _text("model_id"),
        _text("model_name"),
        sa.Column("pricing", sa.JSON, nullable=False),
        sa.Column("currency", sa.String(3), nullable=False),
        sa.Column("source", sa.String(8), nullable=False),
        _text("origin"),
        _time("effective_from"),
        _time("effective_to", nullable=True),
        _time("created_at"),
        _time("updated_at"),
        _time("deleted_at", nullable=True),
    )
    op.create_index("llm_prices_of_namespace", "llm_prices", ["namespace", "model_id"])
    op.create_table(
        "held_llm_prices",
        sa.Column("id", sa.String(26), primary_key=True),
        _text("namespace"),
        sa.Column("offered", sa.JSON, nullable=False),
        _text("origin"),
        sa.Column("in_force", sa.String(26), nullable=False),
        sa.Column("state", sa.String(8), nullable=False),
        _time("created_at"),
        _time("decided_at", nullable=True),
        _text("decided_by", nullable=True),
    )
    op.create_index("held_llm_prices_of_namespace", "held_llm_prices", ["namespace", "state"])


def downgrade() -> None:
    op.drop_table("held_llm_prices")
    op.drop_table("llm_prices")
