"""Wires the collector: the only module that knows which part is which."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import cache, partial
from typing import Any

from aiohttp import web
from tallyman_kong.usage import configuration

from tallyman import connections
from tallyman.api import openapi
from tallyman.api.border import ROUTES as BY_ROUTE
from tallyman.api.border import border
from tallyman.api.documentation import DOCUMENT
from tallyman.api.new_subjects import NewSubjects
from tallyman.api.requests import Requests
from tallyman.api.routes import ROUTES
from tallyman.api.shares import Shares
from tallyman.api.state import (
    APPS,
    BOOKS,
    CLOCK,
    COMPLETENESS,
    CREDIT_WATCH,
    CUSTOMERS,
    DATABASE,
    ENTITLEMENT_GRANTS,
    ENTITLEMENT_USAGE,
    ENTITLEMENTS,
    EVENT_CHANGES,
    EVENTS,
    FEATURES,
    INTAKE,
    KEYS,
    METERS,
    NEW_SUBJECTS,
    PLANS,
    RECONCILIATION,
    REQUESTS,
    RESETS,
    SAYS_WHAT_WAS_NEW,
    SETTINGS,
    SHARES,
    STRIPE,
    STRIPE_CUSTOMERS,
    SUBSCRIPTIONS,
    UNATTRIBUTED,
    UNATTRIBUTED_GAUGE,
    USAGE,
    USAGE_BEFORE,
)
from tallyman.api.status import KAFKA, STARTED
from tallyman.api.unattributed_gauge import UnattributedGauge
from tallyman.billing.credit_watch import CreditWatch
from tallyman.billing.entitlement_counters import EntitlementCounters
from tallyman.billing.entitlement_reset import EntitlementResets
from tallyman.billing.give_back import hearers
from tallyman.billing.job import bill_for_ever
from tallyman.billing.usage_before_start import UsageBefore
from tallyman.config import Settings
from tallyman.domain.stripe_operation import OperationKind
from tallyman.errors import ConfigurationError
from tallyman.kong_config import load_usage_configuration
from tallyman.payments.stripe_app import StripeAccount, StripeApp
from tallyman.store.api_keys import ApiKeyStore
from tallyman.store.clickhouse import ClickHouse
from tallyman.store.credit_top_ups import CreditTopUpStore
from tallyman.store.customers import CustomerStore
from tallyman.store.entitlement_definitions import EntitlementDefinitions
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
from tallyman.stream.group_commit import GroupCommit
from tallyman.stream.intake import Intake
from tallyman.stream.kafka_connection import KafkaConnection
from tallyman.stream.producer import KafkaIntake
from tallyman.stream.reconcile_job import reconcile_for_ever
from tallyman.stream.rollup_job import refresh_for_ever


def build(settings: Settings) -> web.Application:
    """The API over the stores that the settings name; they are opened when it starts.

    Raises:
        ConfigurationError: a setting cannot be used.
    """
    app = web.Application(middlewares=[border], client_max_size=settings.max_body_bytes)
    app[SETTINGS] = settings
    app[STARTED] = time.monotonic()
    app[KAFKA] = connections.kafka_connection(settings)
    account = connections.stripe_account(settings)
    app[REQUESTS] = Requests()
    app[SHARES] = Shares()
    app[CLOCK] = lambda: datetime.now(UTC)
    app[USAGE] = (
        configuration(None)
        if settings.kong_config is None
        else load_usage_configuration(settings.kong_config)
    )
    _add_routes(app)
    app.cleanup_ctx.append(_relational)
    app.cleanup_ctx.append(_events)
    app.cleanup_ctx.append(_billing)
    app.cleanup_ctx.append(lambda app: _stripe(app, account))
    app.cleanup_ctx.append(_rolling_up)
    app.cleanup_ctx.append(_reconciling)
    app.cleanup_ctx.append(_credit)
    return app


@cache
def _document() -> dict[str, Any]:
    """The same for all applications of a process; to make it takes half a second."""
    return openapi.document(ROUTES)


def _add_routes(app: web.Application) -> None:
    app[DOCUMENT] = _document()
    app[BY_ROUTE] = {}
    for route in ROUTES:
        methods = ("GET", "HEAD") if route.method == "GET" else (route.method,)
        for path in route.paths:
            for method in methods:
                added = app.router.add_route(method, route.pattern(path), route.handler)
                app[BY_ROUTE][added] = route


@asynccontextmanager
async def _intake(
    connection: KafkaConnection | None, settings: Settings, store: EventStore
) -> AsyncIterator[Intake]:
    if connection is None:
        async with GroupCommit(store) as group:
            yield group
        return
    producer = KafkaIntake(connection, settings.kafka_topic)
    try:
        yield producer
    finally:
        await producer.close()


async def _relational(app: web.Application) -> AsyncIterator[None]:
    database = connections.open_database(app[SETTINGS])
    try:
        await database.migrate()
        app[DATABASE] = database
        app[KEYS] = ApiKeyStore(database)
        app[CUSTOMERS] = CustomerStore(database)
        app[APPS] = InstalledAppStore(database)
        app[STRIPE_CUSTOMERS] = StripeCustomerStore(database)
        app[SUBSCRIPTIONS] = SubscriptionStore(database)
        app[METERS] = MeterStore(database)
        app[FEATURES] = FeatureStore(database)
        app[PLANS] = PlanStore(database)
        yield
    finally:
        await database.close()


def _add_entitlements(app: web.Application, clickhouse: ClickHouse) -> EntitlementCounters:
    definitions = EntitlementDefinitions(app[DATABASE])
    usage = EntitlementUsage(clickhouse)
    interval = app[SETTINGS].entitlements_interval_seconds
    app[ENTITLEMENTS] = EntitlementCounters(definitions, usage, app[CLOCK], interval)
    app[RESETS] = EntitlementResets(definitions, usage)
    app[ENTITLEMENT_GRANTS] = EntitlementGrantStore(app[DATABASE])
    app[ENTITLEMENT_USAGE] = usage
    app[USAGE_BEFORE] = UsageBefore(definitions, usage, app[CUSTOMERS], app[SUBSCRIPTIONS])
    return app[ENTITLEMENTS]


async def _events(app: web.Application) -> AsyncIterator[None]:
    clickhouse = connections.open_clickhouse(app[SETTINGS])
    try:
        store = EventStore(clickhouse, alone=app[SETTINGS].clickhouse_url is None)
        await store.migrate()
        app[EVENTS] = store
        app[NEW_SUBJECTS] = NewSubjects(
            app[SETTINGS].max_new_subjects_per_minute, store.stored_subjects
        )
        app[EVENT_CHANGES] = EventChangeStore(app[DATABASE], store)
        await app[EVENT_CHANGES].store_pending()
        app[UNATTRIBUTED] = UnattributedUsage(clickhouse, app[CUSTOMERS])
        app[RECONCILIATION] = connections.reconciliation(app[SETTINGS], clickhouse, app[CUSTOMERS])
        app[COMPLETENESS] = app[RECONCILIATION].completeness
        app[UNATTRIBUTED_GAUGE] = UnattributedGauge(app[UNATTRIBUTED])
        app[BOOKS] = connections.books(app[SETTINGS], app[DATABASE], clickhouse)
        app[CREDIT_WATCH] = CreditWatch(app[BOOKS], app[CLOCK], partial(_is_paid_at_stripe, app))
        app[SAYS_WHAT_WAS_NEW] = app[KAFKA] is None
        counters = _add_entitlements(app, clickhouse)
        async with _intake(app[KAFKA], app[SETTINGS], store) as intake, counters.running():
            app[INTAKE] = intake
            yield
        await store.close()
    finally:
        await clickhouse.close()


def _is_paid_at_stripe(app: web.Application, namespace: str) -> bool:
    stripe = app.get(STRIPE)
    return stripe is not None and stripe.account.namespace == namespace


async def _credit(app: web.Application) -> AsyncIterator[None]:
    """The job that looks at how much credit is left."""
    interval = app[SETTINGS].credit_interval_seconds
    async with _running(app[CREDIT_WATCH].run(interval) if interval else None):
        yield


async def _billing(app: web.Application) -> AsyncIterator[None]:
    """The job that bills by itself; it is cut off where the server stops, and goes on later."""
    interval = app[SETTINGS].billing_interval_seconds
    async with _running(bill_for_ever(app[BOOKS], interval, app[CLOCK]) if interval else None):
        yield


async def _rolling_up(app: web.Application) -> AsyncIterator[None]:
    """The job that refreshes the rollup; it is cut off anywhere, and goes on later."""
    interval = app[SETTINGS].rollup_interval_seconds
    rollup = app[RECONCILIATION].rollup
    async with _running(refresh_for_ever(rollup, interval) if interval else None):
        yield


async def _reconciling(app: web.Application) -> AsyncIterator[None]:
    """The job that reconciles by itself."""
    interval = app[SETTINGS].reconcile_interval_seconds
    job = reconcile_for_ever(app[RECONCILIATION], interval, app[CLOCK]) if interval else None
    async with _running(job):
        yield


@asynccontextmanager
async def _running(job: Coroutine[Any, Any, None] | None) -> AsyncIterator[None]:
    """Have a job run, if there is one, until the end of the block."""
    if job is None:
        yield
        return
    task = asyncio.create_task(job)
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def _stripe(app: web.Application, account: StripeAccount | None) -> AsyncIterator[None]:
    """The job that sends invoices to Stripe; it is cut off anywhere, and goes on later."""
    app[STRIPE] = None
    if account is None:
        yield
        return
    if account.live and await app[BOOKS].sandboxes.is_sandbox(account.namespace):
        raise ConfigurationError(
            f"stripe_live takes real money, and stripe_namespace {account.namespace} is a sandbox, "
            "where a clock may make a year of invoices at once"
        )
    heard = {**hearers(app[BOOKS]), OperationKind.TOP_UP: CreditTopUpStore(app[DATABASE]).hear}
    stripe = app[STRIPE] = StripeApp(account, app[DATABASE], app[CLOCK], heard)
    try:
        async with _running(stripe.work_for_ever(app[SETTINGS].stripe_interval_seconds)):
            yield
    finally:
        await stripe.close()
