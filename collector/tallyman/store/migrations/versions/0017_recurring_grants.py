"""When a grant of an entitlement is made anew."""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("entitlement_grants", sa.Column("recurrence", sa.JSON(none_as_null=True)))


def downgrade() -> None:
    op.drop_column("entitlement_grants", "recurrence")
