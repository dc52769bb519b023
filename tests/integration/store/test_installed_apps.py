"""What is said of each app of a namespace is kept, and tells where its invoices wait."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from tallyman.domain.billing_profile import App, BillingProfile, Supplier, Workflow
from tallyman.domain.installed_app import InstalledApp
from tallyman.errors import Conflict
from tallyman.store.audit import AuditLog
from tallyman.store.billing_profiles import BillingProfileStore
from tallyman.store.customers import CustomerStore
from tallyman.store.database import Database
from tallyman.store.installed_apps import InstalledAppStore

from tests.rigs import sold

NOW = datetime(2026, 11, 21, 9, tzinfo=UTC)
ERP = InstalledApp("default", App.EXTERNAL_INVOICING, "ERP", NOW, NOW, labels={"a": "b"})


async def test_an_app_is_installed_once_changed_and_uninstalled(database: Database) -> None:
    apps = InstalledAppStore(database)
    await apps.install(ERP)
    with pytest.raises(Conflict):
        await apps.install(ERP)
    later = NOW + timedelta(hours=1)
    changed = replace(ERP, name="SAP", waits_to_issue=True, created_at=later, updated_at=later)

    assert await apps.every("default") == {App.EXTERNAL_INVOICING: ERP}
    assert await apps.put(changed) == replace(changed, created_at=NOW)
    assert await apps.every("default") == {App.EXTERNAL_INVOICING: replace(changed, created_at=NOW)}
    assert await apps.every("other") == {}

    await apps.uninstall(changed, later)

    assert await apps.every("default") == {}
    entries = await AuditLog(database).entries("default", "app", "external_invoicing")
    assert [one.action for one in entries] == ["created", "changed", "deleted"]


async def test_an_app_that_a_profile_has_stays_and_says_where_its_invoices_wait(
    database: Database,
) -> None:
    apps, profiles = InstalledAppStore(database), BillingProfileStore(database)
    await apps.install(replace(ERP, waits_in_draft=True))
    made = await profiles.create(
        BillingProfile("", "default", "ERP", Supplier(), Workflow(), False, NOW, NOW, app=ERP.app)
    )

    every = await profiles.every("default")
    with pytest.raises(Conflict, match=made.id):
        await apps.uninstall(ERP, NOW)

    waits = {one.app: one.workflow.waits_in_draft for one in every.values()}
    assert waits == {App.EXTERNAL_INVOICING: True, App.SANDBOX: False}


async def test_what_a_customer_is_outside_is_kept_and_taken_back(database: Database) -> None:
    apps = InstalledAppStore(database)
    customer = await CustomerStore(database).create(sold.customer("acme"))
    await apps.put_external_labels("default", customer.id, {"debtor": "4711"}, NOW)
    kept = await apps.external_labels("default", customer.id)
    await apps.put_external_labels("default", customer.id, {}, NOW)

    assert kept == {"debtor": "4711"}
    assert await apps.external_labels("default", customer.id) == {}
    assert await apps.external_labels("other", customer.id) == {}
