"""Subscriptions, and the resets, grants and overrides of their entitlements.

How far they are billed is in `invoices.py`.
"""

from sqlalchemy import JSON, Boolean, Column, ForeignKey, Index, Integer, String, Table, and_

from tallyman.store.tables.columns import DOCUMENT, UtcDateTime, metadata, text

# Its phases are the plan version's, laid out from `active_from`: a published version never changes.
subscriptions = Table(
    "subscriptions",
    metadata,
    Column("id", String(26), primary_key=True),
    Column("namespace", text(), nullable=False),
    Column("customer_id", String(26), nullable=False),
    Column("plan_id", String(26), ForeignKey("plans.id"), nullable=False),
    Column("plan_key", text(), nullable=False),
    Column("billing_anchor", UtcDateTime, nullable=False),
    Column("active_from", UtcDateTime, nullable=False),
    Column("active_to", UtcDateTime),
    Column("settlement_mode", String(32)),
    Column("labels", JSON, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    Column("deleted_at", UtcDateTime),
    Column("end_proration", String(32)),
)
Index("subscriptions_of_customer", subscriptions.c.customer_id, subscriptions.c.active_from)
Index("subscriptions_by_namespace", subscriptions.c.namespace, subscriptions.c.created_at)
# One goes on without end at a time; that no two overlap is seen to under the customer's lock.
_ENDLESS = and_(subscriptions.c.active_to.is_(None), subscriptions.c.deleted_at.is_(None))
Index(
    "subscriptions_one_open",
    subscriptions.c.customer_id,
    unique=True,
    sqlite_where=_ENDLESS,
    postgresql_where=_ENDLESS,
)

# From when a feature's usage is counted anew, and how much of it is carried over: a decimal as text.
entitlement_resets = Table(
    "entitlement_resets",
    metadata,
    Column("id", String(26), primary_key=True),
    Column("namespace", text(), nullable=False),
    Column("subscription_id", String(26), ForeignKey("subscriptions.id"), nullable=False),
    Column("feature_key", text(), nullable=False),
    Column("effective_at", UtcDateTime, nullable=False),
    Column("retain_anchor", Boolean, nullable=False),
    Column("carried_overage", text(), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
)
Index(
    "entitlement_resets_of_subscription",
    entitlement_resets.c.subscription_id,
    entitlement_resets.c.feature_key,
    entitlement_resets.c.effective_at,
)

# What adds to the allowance of an entitlement; quantities are decimals as text. It is voided, never deleted.
entitlement_grants = Table(
    "entitlement_grants",
    metadata,
    Column("id", String(26), primary_key=True),
    Column("namespace", text(), nullable=False),
    Column("subscription_id", String(26), ForeignKey("subscriptions.id"), nullable=False),
    Column("feature_key", text(), nullable=False),
    Column("amount", text(), nullable=False),
    Column("priority", Integer, nullable=False),
    Column("effective_at", UtcDateTime, nullable=False),
    Column("expires_at", UtcDateTime),
    Column("voided_at", UtcDateTime),
    Column("min_rollover", text(), nullable=False),
    Column("max_rollover", text(), nullable=False),
    Column("metadata", JSON, nullable=False),
    Column("expiration", DOCUMENT),
    Column("recurrence", DOCUMENT),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
)
Index(
    "entitlement_grants_of_subscription",
    entitlement_grants.c.subscription_id,
    entitlement_grants.c.feature_key,
)

# A customer's own limit in place of the rate card's, from a time on; a null limit is none.
entitlement_overrides = Table(
    "entitlement_overrides",
    metadata,
    Column("id", String(26), primary_key=True),
    Column("namespace", text(), nullable=False),
    Column("subscription_id", String(26), ForeignKey("subscriptions.id"), nullable=False),
    Column("feature_key", text(), nullable=False),
    Column("effective_at", UtcDateTime, nullable=False),
    Column("limit", text()),
    Column("is_soft_limit", Boolean, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
)
Index(
    "entitlement_overrides_of_subscription",
    entitlement_overrides.c.subscription_id,
    entitlement_overrides.c.feature_key,
)
