"""Whose next invoice a catalogue's file would change, on real stores."""

from datetime import timedelta

from tallyman.api.catalogue.change import InvoiceChange
from tallyman.api.catalogue.run import compare, put_in_force
from tallyman.api.catalogue.shelf import Shelf

from tests.rigs.shop import NOVEMBER, Shop

DAY = timedelta(days=1)
FILE = """\
features:
  - {key: tokens, name: Tokens, meter: kong_konnect_llm_tokens}
plans:
  - key: starter
    name: Starter
    currency: USD
    billing_cadence: P1M
    phases:
      - key: default
        name: Default
        rate_cards:
          - {key: fee, name: Fee, billing_cadence: P1M, payment_term: in_advance,
             price: {type: flat, amount: 20}}
          - {key: tokens, name: Tokens, feature: tokens, billing_cadence: P1M,
             price: {per: 1000000, amount: 3.00}}
customers:
  - {key: acme, name: Acme, usage_attribution: {subject_keys: [acme]}}
  - {key: globex, name: Globex, usage_attribution: {subject_keys: [globex]}}
subscriptions:
  - {customer: acme, plan: starter}
  - {customer: globex, plan: {key: starter, version: 1}}
"""


async def in_force(shop: Shop) -> Shelf:
    """The file in force since November, with usage; the shelf ten days later."""
    await put_in_force(Shelf(shop.database, shop.namespace, NOVEMBER), FILE, "catalog.yaml")
    await shop.use(2_000_000, NOVEMBER + DAY, "acme")
    await shop.use(5_000_000, NOVEMBER + DAY, "globex")
    return Shelf(shop.database, shop.namespace, NOVEMBER + 10 * DAY)


async def test_a_dearer_plan_shows_whose_invoice_would_grow_and_by_how_much(shop: Shop) -> None:
    shelf = await in_force(shop)
    dearer = FILE.replace("3.00", "4.50")

    seen = await compare(shelf, dearer, "catalog.yaml", shop.books)
    at_once = await compare(
        shelf,
        dearer.replace("acme, plan: starter", "acme, plan: starter, timing: immediate"),
        "catalog.yaml",
        shop.books,
    )

    # 20 + 2 million at 3.00, and at 4.50; globex stays on version 1.
    expected = [InvoiceChange("acme", "USD", "26.00", "29.00", "+3.00")]
    assert (seen.invoices, at_once.invoices) == (expected, expected)
    again = await compare(shelf, FILE, "catalog.yaml", shop.books)
    assert {one.action for one in again.changes} == {"unchanged"}
    assert again.invoices == []


async def test_a_filter_that_no_event_passes_is_warned_of(shop: Shop) -> None:
    shelf = await in_force(shop)
    filtered = "meter: {key: kong_konnect_llm_tokens, filters: {type: {eq: input}}}"
    more = f"features:\n  - {{key: input, name: Input, {filtered}}}"

    seen = await compare(shelf, FILE.replace("features:", more), "a.yaml", shop.books)

    [feature] = [one for one in seen.changes if one.key == "input"]
    assert feature.warning == (
        "meter.filters.type: no event of the last 31 days passes it: type is request"
    )


async def test_what_is_billed_already_is_not_counted_again(shop: Shop) -> None:
    shelf = await in_force(shop)
    await shop.bill(NOVEMBER + 5 * DAY)  # the fee, in advance

    seen = await compare(
        shelf,
        FILE.replace("amount: 20", "amount: 50").replace("3.00", "2.00"),
        "catalog.yaml",
        shop.books,
    )

    assert seen.invoices == [InvoiceChange("acme", "USD", "6.00", "4.00", "-2.00")]


async def test_a_new_subscriber_shows_with_what_is_due_at_once(shop: Shop) -> None:
    shelf = await in_force(shop)
    new = FILE + "  - {customer: new, plan: starter}\n"
    new = new.replace(
        "subscriptions:",
        "  - {key: new, name: New, usage_attribution: {subject_keys: [new]}}\nsubscriptions:",
    )

    seen = await compare(shelf, new, "catalog.yaml", shop.books)

    assert seen.invoices == [InvoiceChange("new", "USD", "0.00", "20.00", "+20.00")]
