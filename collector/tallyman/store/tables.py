"""The relational tables as SQLAlchemy sees them; `migrations/` creates and changes them.

Events are not here: they are in ClickHouse (`event_schema.py`).
"""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    DateTime,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    and_,
    not_,
)

metadata = MetaData()
DOCUMENT = JSON(none_as_null=True)


class UtcDateTime(TypeDecorator[datetime]):
    """An aware UTC time; SQLite has no time zones, so it is kept there without one."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        if value is None:
            return None
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        moment: datetime = value
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _text() -> Text:
    """Text that compares and sorts by code point on both databases."""
    return Text().with_variant(Text(collation="C"), "postgresql")


meters = Table(
    "meters",
    metadata,
    Column("id", String(26), primary_key=True),
    Column("namespace", _text(), nullable=False),
    Column("key", _text(), nullable=False),
    Column("name", _text(), nullable=False),
    Column("description", _text()),
    Column("labels", JSON, nullable=False),
    Column("aggregation", String(16), nullable=False),
    Column("event_type", _text(), nullable=False),
    Column("value_property", _text()),
    Column("dimensions", JSON, nullable=False),
    Column("events_from", UtcDateTime),
    Column("only_dimension", _text()),
    Column("only_value", _text()),
    Column("built_in", Boolean, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    Column("deleted_at", UtcDateTime),
)
# A deleted meter frees its key, and several deleted ones may have had the same.
Index(
    "meters_key",
    meters.c.namespace,
    meters.c.key,
    unique=True,
    sqlite_where=meters.c.deleted_at.is_(None),
    postgresql_where=meters.c.deleted_at.is_(None),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", String(26), primary_key=True),
    Column("namespace", _text(), nullable=False),
    Column("name", _text(), nullable=False),
    Column("hint", String(16), nullable=False),
    Column("sha256", String(64), nullable=False, unique=True),
    Column("scopes", JSON, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("revoked_at", UtcDateTime),
)

features = Table(
    "features",
    metadata,
    Column("id", String(26), primary_key=True),
    Column("namespace", _text(), nullable=False),
    Column("key", _text(), nullable=False),
    Column("name", _text(), nullable=False),
    Column("description", _text()),
    Column("labels", JSON, nullable=False),
    Column("meter_id", String(26)),
    Column("filters", DOCUMENT),
    Column("unit_cost", DOCUMENT),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    Column("deleted_at", UtcDateTime),
)
Index(
    "features_key",
    features.c.namespace,
    features.c.key,
    unique=True,
    sqlite_where=features.c.deleted_at.is_(None),
    postgresql_where=features.c.deleted_at.is_(None),
)

# A row is a version of a plan. Once `effective_from` is set, its phases never change.
plans = Table(
    "plans",
    metadata,
    Column("id", String(26), primary_key=True),
    Column("namespace", _text(), nullable=False),
    Column("key", _text(), nullable=False),
    Column("version", Integer, nullable=False),
    Column("name", _text(), nullable=False),
    Column("description", _text()),
    Column("labels", JSON, nullable=False),
    Column("currency", _text(), nullable=False),
    Column("billing_cadence", String(64), nullable=False),
    Column("pro_rating_enabled", Boolean, nullable=False),
    Column("settlement_mode", String(32)),
    Column("phases", JSON, nullable=False),
    Column("effective_from", UtcDateTime),
    Column("effective_to", UtcDateTime),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    Column("deleted_at", UtcDateTime),
)
# The number of a deleted draft is not given again.
Index("plans_version", plans.c.namespace, plans.c.key, plans.c.version, unique=True)

audit_log = Table(
    "audit_log",
    metadata,
    Column("id", String(26), primary_key=True),
    Column("namespace", _text(), nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("actor", _text(), nullable=False),
    Column("action", String(32), nullable=False),
    Column("entity", String(32), nullable=False),
    Column("entity_id", _text(), nullable=False),
    Column("before", DOCUMENT),
    Column("after", DOCUMENT),
)
Index("audit_log_entity", audit_log.c.namespace, audit_log.c.entity, audit_log.c.entity_id)

billing_profiles = Table(
    "billing_profiles",
    metadata,
    Column("id", String(26), primary_key=True),
    Column("namespace", _text(), nullable=False),
    Column("name", _text(), nullable=False),
    Column("description", _text()),
    Column("labels", JSON, nullable=False),
    Column("supplier", JSON, nullable=False),
    Column("workflow", JSON, nullable=False),
    Column("is_default", Boolean, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    Column("deleted_at", UtcDateTime),
)
# A namespace has one default.
Index(
    "billing_profiles_default",
    billing_profiles.c.namespace,
    unique=True,
    sqlite_where=and_(billing_profiles.c.is_default, billing_profiles.c.deleted_at.is_(None)),
    postgresql_where=and_(billing_profiles.c.is_default, billing_profiles.c.deleted_at.is_(None)),
)

# `id` comes from the customer, the currency, `invoice_at` and the version: whoever makes it again
# finds it there. `revision` counts its changes, so that of two that change it at once one does.
invoices = Table(
    "invoices",
    metadata,
    Column("id", String(26), primary_key=True),
    Column("namespace", _text(), nullable=False),
    Column("revision", Integer, nullable=False),
    Column("number", _text(), nullable=False),
    Column("customer_id", String(26), nullable=False),
    Column("currency", String(3), nullable=False),
    Column("state", String(48), nullable=False),
    Column("status", String(24), nullable=False),
    Column("invoice_at", UtcDateTime, nullable=False),
    Column("version", Integer, nullable=False),
    Column("service_from", UtcDateTime, nullable=False),
    Column("service_to", UtcDateTime, nullable=False),
    Column("totals", JSON, nullable=False),
    Column("customer", JSON, nullable=False),
    Column("supplier", JSON, nullable=False),
    Column("workflow", JSON, nullable=False),
    Column("validation_issues", JSON, nullable=False),
    Column("counting", DOCUMENT),
    Column("watermark", UtcDateTime),
    Column("quantity_snapshotted_at", UtcDateTime),
    Column("wakes_at", UtcDateTime),
    Column("collection_at", UtcDateTime),
    Column("draft_until", UtcDateTime),
    Column("issued_at", UtcDateTime),
    Column("due_at", UtcDateTime),
    Column("sent_to_customer_at", UtcDateTime),
    Column("paid_at", UtcDateTime),
    Column("voided_at", UtcDateTime),
    Column("billing_profile_id", String(26)),
    Column("external_invoicing_id", _text()),
    Column("external_payment_id", _text()),
    Column("description", _text()),
    Column("labels", JSON, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    Column("deleted_at", UtcDateTime),
)
Index("invoices_number", invoices.c.namespace, invoices.c.number, unique=True)
Index("invoices_of_customer", invoices.c.namespace, invoices.c.customer_id, invoices.c.invoice_at)
# What the next run has to look at: few of all.
Index(
    "invoices_waking",
    invoices.c.wakes_at,
    sqlite_where=invoices.c.wakes_at.is_not(None),
    postgresql_where=invoices.c.wakes_at.is_not(None),
)

# `body` is the line as JSON. What a deleted or voided invoice had is freed, and may be billed again.
invoice_lines = Table(
    "invoice_lines",
    metadata,
    Column("invoice_id", String(26), ForeignKey("invoices.id"), primary_key=True),
    Column("id", String(26), primary_key=True),
    Column("position", Integer, nullable=False),
    Column("customer_id", String(26), nullable=False),
    Column("subscription_id", String(26), nullable=False),
    Column("billable_id", String(26), nullable=False),
    Column("version", Integer, nullable=False),
    Column("freed", Boolean, nullable=False),
    Column("service_from", UtcDateTime, nullable=False),
    Column("service_to", UtcDateTime, nullable=False),
    Column("body", Text, nullable=False),
)
# A billable is billed once, and corrected once at a time, whoever bills it.
Index(
    "invoice_lines_once",
    invoice_lines.c.billable_id,
    invoice_lines.c.version,
    unique=True,
    sqlite_where=not_(invoice_lines.c.freed),
    postgresql_where=not_(invoice_lines.c.freed),
)
Index("invoice_lines_of_customer", invoice_lines.c.customer_id, invoice_lines.c.service_to)

# Up to where what a subscription owes is on invoices, and up to which watermark late events have been
# looked at; what is freed puts both back.
billing_progress = Table(
    "billing_progress",
    metadata,
    Column("subscription_id", String(26), primary_key=True),
    Column("customer_id", String(26), nullable=False),
    Column("billed_until", UtcDateTime, nullable=False),
    Column("corrected_until", UtcDateTime),
    Column("next_due_at", UtcDateTime),
    Column("as_of", UtcDateTime),
)
Index("billing_progress_of_customer", billing_progress.c.customer_id)

invoice_numbers = Table(
    "invoice_numbers",
    metadata,
    Column("namespace", _text(), primary_key=True),
    Column("last", Integer, nullable=False),
)

# Its phases are the plan version's, laid out from `active_from`: a published version never changes.
subscriptions = Table(
    "subscriptions",
    metadata,
    Column("id", String(26), primary_key=True),
    Column("namespace", _text(), nullable=False),
    Column("customer_id", String(26), nullable=False),
    Column("plan_id", String(26), ForeignKey("plans.id"), nullable=False),
    Column("plan_key", _text(), nullable=False),
    Column("billing_anchor", UtcDateTime, nullable=False),
    Column("active_from", UtcDateTime, nullable=False),
    Column("active_to", UtcDateTime),
    Column("settlement_mode", String(32)),
    Column("labels", JSON, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    Column("deleted_at", UtcDateTime),
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
    Column("namespace", _text(), nullable=False),
    Column("subscription_id", String(26), ForeignKey("subscriptions.id"), nullable=False),
    Column("feature_key", _text(), nullable=False),
    Column("effective_at", UtcDateTime, nullable=False),
    Column("retain_anchor", Boolean, nullable=False),
    Column("carried_overage", _text(), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
)
Index(
    "entitlement_resets_of_subscription",
    entitlement_resets.c.subscription_id,
    entitlement_resets.c.feature_key,
    entitlement_resets.c.effective_at,
)

customers = Table(
    "customers",
    metadata,
    Column("id", String(26), primary_key=True),
    Column("namespace", _text(), nullable=False),
    Column("key", _text(), nullable=False),
    Column("name", _text(), nullable=False),
    Column("description", _text()),
    Column("labels", JSON, nullable=False),
    Column("primary_email", _text()),
    Column("currency", String(3)),
    Column("billing_address", DOCUMENT),
    Column("billing_profile_id", String(26)),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    Column("deleted_at", UtcDateTime),
)
Index(
    "customers_key",
    customers.c.namespace,
    customers.c.key,
    unique=True,
    sqlite_where=customers.c.deleted_at.is_(None),
    postgresql_where=customers.c.deleted_at.is_(None),
)

# A row is a claim on a subject's usage: of the time [effective_from, released_at), where a null is
# no bound. `claimed_at` is when it was made, so that what was known at any time can be told.
customer_subjects = Table(
    "customer_subjects",
    metadata,
    Column("id", String(26), primary_key=True),
    Column("namespace", _text(), nullable=False),
    Column("customer_id", String(26), ForeignKey("customers.id"), nullable=False),
    Column("subject", _text(), nullable=False),
    Column("position", Integer, nullable=False),
    Column("effective_from", UtcDateTime),
    Column("claimed_at", UtcDateTime, nullable=False),
    Column("released_at", UtcDateTime),
)
Index("customer_subjects_of_customer", customer_subjects.c.customer_id)
Index("customer_subjects_of_subject", customer_subjects.c.namespace, customer_subjects.c.subject)
# A subject belongs to one customer.
Index(
    "customer_subjects_one_owner",
    customer_subjects.c.namespace,
    customer_subjects.c.subject,
    unique=True,
    sqlite_where=customer_subjects.c.released_at.is_(None),
    postgresql_where=customer_subjects.c.released_at.is_(None),
)
