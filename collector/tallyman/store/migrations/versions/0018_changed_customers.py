"""Whose change is still to be told to Stripe."""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("stripe_customers", sa.Column("tell_at", sa.DateTime(timezone=True)))


def downgrade() -> None:
    op.drop_column("stripe_customers", "tell_at")
