"""What handlers find in the application and in a request, with its type."""

from collections.abc import Callable
from datetime import datetime
from typing import Final

from aiohttp import web
from tallyman_kong.usage import UsageConfiguration

from tallyman.api.new_subjects import NewSubjects
from tallyman.api.requests import Requests
from tallyman.api.shares import Shares
from tallyman.api.unattributed_gauge import UnattributedGauge
from tallyman.billing.books import Books
from tallyman.billing.credit_watch import CreditWatch
from tallyman.billing.entitlement_counters import EntitlementCounters
from tallyman.billing.entitlement_reset import EntitlementResets
from tallyman.billing.usage_before_start import UsageBefore
from tallyman.config import Settings
from tallyman.domain.access import Caller
from tallyman.payments.stripe_app import StripeApp
from tallyman.store.api_keys import ApiKeyStore
from tallyman.store.completeness import Completeness
from tallyman.store.customers import CustomerStore
from tallyman.store.database import Database
from tallyman.store.entitlement_grants import EntitlementGrantStore
from tallyman.store.entitlement_usage import EntitlementUsage
from tallyman.store.event_changes import EventChangeStore
from tallyman.store.events import EventStore
from tallyman.store.features import FeatureStore
from tallyman.store.installed_apps import InstalledAppStore
from tallyman.store.meters import MeterStore
from tallyman.store.plans import PlanStore
from tallyman.store.stripe_customers import StripeCustomerStore
from tallyman.store.subscriptions import SubscriptionStore
from tallyman.store.unattributed import UnattributedUsage
from tallyman.stream.intake import Intake
from tallyman.stream.reconcile import Reconciliation

SETTINGS: Final = web.AppKey("settings", Settings)
SHARES: Final = web.AppKey("shares", Shares)
NEW_SUBJECTS: Final = web.AppKey("new_subjects", NewSubjects)
REQUESTS: Final = web.AppKey("requests", Requests)
DATABASE: Final = web.AppKey("database", Database)
KEYS: Final = web.AppKey("keys", ApiKeyStore)
CUSTOMERS: Final = web.AppKey("customers", CustomerStore)
SUBSCRIPTIONS: Final = web.AppKey("subscriptions", SubscriptionStore)
FEATURES: Final = web.AppKey("features", FeatureStore)
PLANS: Final = web.AppKey("plans", PlanStore)
METERS: Final = web.AppKey("meters", MeterStore)
USAGE_BEFORE: Final = web.AppKey("usage_before", UsageBefore)
ENTITLEMENTS: Final = web.AppKey("entitlements", EntitlementCounters)
CREDIT_WATCH: Final = web.AppKey("credit_watch", CreditWatch)
ENTITLEMENT_GRANTS: Final = web.AppKey("entitlement_grants", EntitlementGrantStore)
ENTITLEMENT_USAGE: Final = web.AppKey("entitlement_usage", EntitlementUsage)
RESETS: Final = web.AppKey("resets", EntitlementResets)
UNATTRIBUTED: Final = web.AppKey("unattributed", UnattributedUsage)
UNATTRIBUTED_GAUGE: Final = web.AppKey("unattributed_gauge", UnattributedGauge)
BOOKS: Final = web.AppKey("books", Books)
APPS: Final = web.AppKey("apps", InstalledAppStore)
# None where no key of Stripe's is set.
STRIPE_CUSTOMERS: Final = web.AppKey("stripe_customers", StripeCustomerStore)
STRIPE: Final[web.AppKey[StripeApp | None]] = web.AppKey("stripe")
RECONCILIATION: Final = web.AppKey("reconciliation", Reconciliation)
COMPLETENESS: Final = web.AppKey("completeness", Completeness)
EVENTS: Final = web.AppKey("events", EventStore)
EVENT_CHANGES: Final = web.AppKey("event_changes", EventChangeStore)
INTAKE: Final = web.AppKey("intake", Intake)
# Whether the intake knows what was new; Kafka's does not, only the consumer behind it will.
SAYS_WHAT_WAS_NEW: Final = web.AppKey("says_what_was_new", bool)
USAGE: Final = web.AppKey("usage", UsageConfiguration)

# What time it is for everybody, aware and in UTC. What is in force is a question of NOW, the time in
# the caller's namespace: a sandbox may have a clock of its own.
CLOCK: Final[web.AppKey[Callable[[], datetime]]] = web.AppKey("clock")
NOW: Final = web.RequestKey("now", datetime)

CALLER: Final = web.RequestKey("caller", Caller)
TRACE: Final = web.RequestKey("trace", str)
