"""What a subscription's end was made by, and indices that find lines that count, and that do not."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_AS_EVER = "bill_actual_period"  # what a profile without the setting means


def upgrade() -> None:
    op.add_column("subscriptions", sa.Column("end_proration", sa.String(32)))
    _keep_what_is_in_force()
    op.create_index(
        "invoice_lines_freed",
        "invoice_lines",
        ["customer_id"],
        sqlite_where=sa.text("freed = 1"),
        postgresql_where=sa.text("freed"),
    )
    _create_once("freed = 0")  # SQLite takes a partial index only for the very words of a query


def downgrade() -> None:
    op.drop_index("invoice_lines_freed", "invoice_lines")
    _create_once("NOT freed")
    op.drop_column("subscriptions", "end_proration")


def _create_once(condition: str) -> None:
    if op.get_bind().dialect.name != "sqlite":
        return
    op.drop_index("invoice_lines_once", "invoice_lines")
    op.create_index(
        "invoice_lines_once",
        "invoice_lines",
        ["billable_id", "version"],
        unique=True,
        sqlite_where=sa.text(condition),
    )


def _keep_what_is_in_force() -> None:
    """For ends that are set already: their customer's profile, or else the default one."""
    subscriptions = sa.table(
        "subscriptions", *map(sa.column, ("namespace", "customer_id", "active_to", "end_proration"))
    )
    customers = sa.table("customers", *map(sa.column, ("id", "billing_profile_id")))
    profiles = sa.table(
        "billing_profiles",
        *map(sa.column, ("id", "namespace", "deleted_at")),
        sa.column("is_default", sa.Boolean),
        sa.column("workflow", sa.JSON),
    )
    connection = op.get_bind()
    ended = sa.and_(subscriptions.c.active_to.is_not(None), subscriptions.c.end_proration.is_(None))
    found = sa.select(profiles).where(profiles.c.deleted_at.is_(None))
    for row in connection.execute(found.order_by(profiles.c.is_default)).all():
        whose = sa.select(customers.c.id).where(customers.c.billing_profile_id == row.id)
        is_its = subscriptions.c.customer_id.in_(whose)
        if row.is_default:
            is_its = subscriptions.c.namespace == row.namespace
        connection.execute(
            sa.update(subscriptions)
            .where(ended, is_its)
            .values(end_proration=row.workflow.get("end_proration", _AS_EVER))
        )
    connection.execute(sa.update(subscriptions).where(ended).values(end_proration=_AS_EVER))
