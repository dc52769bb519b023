"""`tallyman apply|diff|dump`: the catalogue as a file, on both databases."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import asyncpg
import pytest
from click.testing import CliRunner, Result
from tallyman.api.wire import write_time
from tallyman.cli import main
from tallyman.domain.plan import PlanStatus
from tallyman.domain.price import UnitPrice
from tallyman.domain.subscription_change import EditTiming
from tallyman.store.customers import CustomerStore
from tallyman.store.database import Database
from tallyman.store.features import FeatureStore
from tallyman.store.meters import MeterStore
from tallyman.store.plans import PlanStore
from tallyman.store.subscriptions import SubscriptionStore

EXAMPLE = Path(__file__).parents[3] / "examples" / "catalog.yaml"
SMALL = """\
features:
  - {key: ai_token, name: AI Token, meter: kong_konnect_llm_tokens}
plans:
  - key: starter
    name: Starter
    currency: USD
    billing_cadence: P1M
    phases:
      - key: default
        name: Default
        rate_cards:
          - key: ai_token
            name: Tokens
            feature: ai_token
            billing_cadence: P1M
            price: {per: 1000000, amount: 3.00}
customers:
  - {key: acme, name: Acme Corp, usage_attribution: {subject_keys: [acme-corp]}}
subscriptions:
  - {customer: acme, plan: starter}
"""


ONLY_SOLD = SMALL.split("customers:")[0]


class Installation:
    """A database of its own, and the commands on it."""

    def __init__(self, environment: dict[str, str], database: Database) -> None:
        self._environment = environment
        self.database = database
        self.plans = PlanStore(database)

    async def run(self, command: str, *arguments: str, given: str | None = None) -> Result:
        """The command has an event loop of its own, so it runs in a thread."""
        runner = CliRunner(env=self._environment)
        file = [] if command == "dump" or not given else ["-"]
        return await asyncio.to_thread(
            runner.invoke,
            main,
            [command, *arguments, *file],
            input=given,
            catch_exceptions=False,
        )

    async def apply(self, given: str) -> str:
        """The last line of `tallyman apply`, which must go well."""
        done = await self.run("apply", given=given)
        assert done.exit_code == 0, done.output
        return done.output.splitlines()[-1]

    async def versions(self, key: str = "starter") -> list[tuple[int, str]]:
        """The versions of a plan with their status."""
        now = datetime.now(UTC)
        found, _ = await self.plans.list("default", now=now, order_by="version", limit=None)
        return [(one.version, str(one.status_at(now))) for one in found if one.key == key]

    async def subscribed(self, customer_key: str = "acme") -> list[tuple[int, str]]:
        """The plan's versions that a customer is and was on, with the subscription's status."""
        customer = await CustomerStore(self.database).get("default", customer_key)
        store = SubscriptionStore(self.database)
        found = await store.of_customers("default", [customer.id])
        now = datetime.now(UTC)
        return [(one.plan_version, str(one.status_at(now))) for one in found[customer.id]]


@pytest.fixture(params=["sqlite", "postgres"])
async def installation(
    request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncIterator[Installation]:
    """Nothing in it yet; the command migrates it."""
    environment = {"TALLYMAN_DATA_DIR": str(tmp_path)}
    if request.param == "sqlite":
        database = Database.sqlite(tmp_path / "tallyman.sqlite3")
    else:
        url = request.getfixturevalue("postgres_url")
        connection = await asyncpg.connect(url)
        await connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
        await connection.close()
        environment["TALLYMAN_DATABASE_URL"] = url
        database = Database.postgres(url)
    await database.migrate()
    yield Installation(environment, database)
    await database.close()


async def test_the_example_is_applied_once_and_then_changes_nothing(
    installation: Installation,
) -> None:
    first = await installation.run("apply", str(EXAMPLE))
    second = await installation.run("apply", str(EXAMPLE))
    seen = await installation.run("diff", "--exit-code", str(EXAMPLE))

    assert first.output.endswith("14 made, 0 changed, 0 unchanged.\n")
    assert second.output == "0 made, 0 changed, 14 unchanged.\n"
    assert (seen.exit_code, seen.output) == (0, "0 to be made, 0 to be changed, 14 unchanged.\n")
    assert await installation.versions("pro") == [(1, "active")]


async def test_the_example_of_the_documentation_can_be_applied(
    installation: Installation,
) -> None:
    text = (EXAMPLE.parents[1] / "docs" / "catalogue.md").read_text()

    assert await installation.apply(text.split("```yaml\n")[1].split("```")[0]) == (
        "4 made, 0 changed, 0 unchanged."
    )


async def test_diff_shows_every_value_and_changes_nothing(installation: Installation) -> None:
    seen = await installation.run("diff", "--exit-code", given=ONLY_SOLD)

    assert seen.exit_code == 2
    assert (
        "    + phases[default].rate_cards[ai_token].price.amount: 0.000003 (3 per million)\n"
        in seen.output
    )
    assert seen.output.endswith("2 to be made, 0 to be changed, 0 unchanged.\n")
    assert await installation.versions() == []
    assert await FeatureStore(installation.database).list("default") == ([], 0)
    assert await CustomerStore(installation.database).every() == []


async def test_diff_shows_values_as_the_file_has_them(installation: Installation) -> None:
    given = SMALL.replace("P1M\n    phases", "P1M\n    pro_rating_enabled: false\n    phases")
    given = given.replace("[acme-corp]", "[acme-corp, acme-test]")

    seen = await installation.run("diff", given=given)

    assert "    + pro_rating_enabled: false\n" in seen.output
    assert "    + usage_attribution.subject_keys: [acme-corp, acme-test]\n" in seen.output


async def test_what_is_dumped_and_applied_elsewhere_is_the_same(
    installation: Installation, tmp_path: Path
) -> None:
    await installation.run("apply", str(EXAMPLE))
    dumped = (await installation.run("dump")).output
    elsewhere = CliRunner(env={"TALLYMAN_DATA_DIR": str(tmp_path / "elsewhere")})

    def there(*arguments: str) -> str:
        return elsewhere.invoke(main, arguments, input=dumped, catch_exceptions=False).output

    applied = await asyncio.to_thread(there, "apply", "-")
    again = await asyncio.to_thread(there, "dump")

    assert await installation.apply(dumped) == "0 made, 0 changed, 14 unchanged."
    assert applied.endswith("14 made, 0 changed, 0 unchanged.\n")
    assert again == dumped
    assert "amount: '0.00001'  # 10 per million\n" in dumped


async def test_a_published_plan_gets_a_new_version_and_its_subscribers_follow(
    installation: Installation,
) -> None:
    await installation.apply(SMALL)
    dearer = SMALL.replace("3.00", "4.00")

    seen = await installation.run("diff", given=dearer.split("customers:")[0])
    done = await installation.apply(dearer)
    again = await installation.apply(dearer)

    price = "phases[default].rate_cards[ai_token].price.amount"
    assert f"- {price}: 0.000003 (3 per million)" in seen.output
    assert f"+ {price}: 0.000004 (4 per million)" in seen.output
    assert (done, again) == (
        "0 made, 2 changed, 2 unchanged.",
        "0 made, 0 changed, 4 unchanged.",
    )
    assert await installation.versions() == [(1, "archived"), (2, "active")]
    first = await installation.plans.version("default", "starter", 1)
    assert first.phases[0].rate_cards[0].price == UnitPrice(Decimal("0.000003"))
    # By default at the end of the billing period, so that nobody pays more for what is used.
    assert await installation.subscribed() == [(1, "canceled"), (2, "scheduled")]


async def test_a_subscription_that_names_its_version_stays_on_it(
    installation: Installation,
) -> None:
    pinned = SMALL.replace("plan: starter}", "plan: {key: starter, version: 1}}")
    await installation.apply(pinned)
    await installation.apply(pinned.replace("3.00", "4.00").replace("Starter", "New"))

    assert await installation.versions() == [(1, "archived"), (2, "active")]
    assert await installation.subscribed() == [(1, "active")]


async def test_a_subscription_changes_at_once_where_the_file_says_so(
    installation: Installation,
) -> None:
    await installation.apply(SMALL)
    await installation.apply(
        SMALL.replace("3.00", "4.00").replace("plan: starter}", "plan: starter, timing: immediate}")
    )

    assert await installation.subscribed() == [(1, "inactive"), (2, "active")]


async def test_a_cancellation_that_was_made_elsewhere_stands_also_when_it_is_over(
    installation: Installation,
) -> None:
    await installation.apply(SMALL)
    customer = await CustomerStore(installation.database).get("default", "acme")
    store = SubscriptionStore(installation.database)
    [begun] = (await store.of_customers("default", [customer.id]))[customer.id]
    await store.cancel("default", begun.id, EditTiming.NEXT_BILLING_CYCLE, datetime.now(UTC))

    canceled = await installation.run("apply", given=SMALL)
    await store.unschedule_cancelation("default", begun.id, datetime.now(UTC))
    await store.cancel("default", begun.id, EditTiming.IMMEDIATE, datetime.now(UTC))
    over = await installation.run("apply", given=SMALL)

    assert "! subscription acme: it is canceled, ends on" in canceled.output
    assert "! subscription acme: it ended on" in over.output
    assert over.output.endswith("0 made, 0 changed, 4 unchanged.\n")
    assert await installation.subscribed() == [(1, "inactive")]
    from_now_on = f"starter, active_from: '{write_time(datetime.now(UTC))}'}}"
    await installation.apply(SMALL.replace("starter}", from_now_on))
    assert await installation.subscribed() == [(1, "inactive"), (1, "active")]


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        pytest.param("2026-10-02T00:00:00Z", "active_from", id="the start"),
        pytest.param("2026-10-02T00:00:00Z", "billing_anchor", id="the anchor"),
        pytest.param("{tier: gold}", "labels", id="the labels"),
    ],
)
async def test_what_a_subscription_began_with_cannot_change_and_the_error_names_the_line(
    installation: Installation, changed: str, field: str
) -> None:
    start = "starter, active_from: 2026-10-01T00:00:00Z, "
    there = SMALL.replace("starter}", start + "billing_anchor: 2026-10-01T00:00:00Z}")
    await installation.apply(there)
    said = {
        "active_from": "2026-10-01T00:00:00Z",
        "billing_anchor": "2026-10-01T00:00:00Z",
        field: changed,
    }
    written = ", ".join(f"{name}: {value}" for name, value in said.items())

    refused = await installation.run(
        "apply", given=SMALL.replace("starter}", f"starter, {written}}}")
    )

    assert refused.exit_code == 1
    assert f"standard input:20: subscriptions[0].{field} cannot change" in refused.output
    assert (await installation.apply(there)).startswith("0 made, 0 changed")


async def test_a_plan_from_a_later_date_is_scheduled(installation: Installation) -> None:
    await installation.apply(SMALL)
    later = SMALL.replace("3.00", "4.00").replace(
        "    currency: USD", "    effective_from: 2199-01-01T00:00:00Z\n    currency: USD"
    )

    await installation.apply(later)
    again = await installation.apply(later)

    assert await installation.versions() == [(1, "active"), (2, "scheduled")]
    assert again == "0 made, 0 changed, 4 unchanged."


async def test_a_draft_of_the_api_becomes_the_files_version(installation: Installation) -> None:
    await installation.apply(SMALL)
    first = await installation.plans.version("default", "starter", 1)
    await installation.plans.create(first)

    await installation.apply(SMALL.replace("3.00", "4.00"))

    assert await installation.versions() == [(1, "archived"), (2, "active")]


async def test_what_the_file_does_not_have_stays(installation: Installation) -> None:
    await installation.apply(SMALL)

    done = await installation.apply("customers:\n  - {key: acme, name: Acme Inc}\n")

    customer = await CustomerStore(installation.database).get("default", "acme")
    assert done == "0 made, 1 changed, 0 unchanged."
    assert (customer.name, customer.subject_keys) == ("Acme Inc", ("acme-corp",))
    assert await installation.versions() == [(1, PlanStatus.ACTIVE)]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        pytest.param(
            SMALL.replace("amount: 3.00", "amount: three"),
            "standard input:16: plans[0].phases[0].rate_cards[0].price.amount must be a number",
            id="a price that is no number",
        ),
        pytest.param(
            SMALL.replace("per: 1000000", "per: 3").replace("3.00", "1"),
            "standard input:16: plans[0].phases[0].rate_cards[0].price.amount 1 per 3 has more than",
            id="a price that no decimal has",
        ),
        pytest.param(
            SMALL.replace("feature: ai_token", "feature: other"),
            "standard input:14: plans[0].phases[0].rate_cards[0].feature there is no feature other",
            id="no such feature",
        ),
        pytest.param(
            SMALL.replace("kong_konnect_llm_tokens", "colours"),
            "standard input:2: features[0].meter there is no meter colours",
            id="no such meter",
        ),
        pytest.param(
            SMALL.replace("    currency: USD\n", ""),
            "standard input:4: plans[0].currency is required",
            id="a key that is missing",
        ),
        pytest.param(
            SMALL.replace("name: Default", "nmae: Default"),
            "standard input:9: plans[0].phases[0].name is required\n"
            "standard input:10: plans[0].phases[0].nmae is not known",
            id="a key that is misspelt",
        ),
        pytest.param(
            SMALL.replace("    name: Starter\n", "    name: Starter\n    name: Pro\n"),
            "standard input:6: plans[0].name is there twice",
            id="a key twice",
        ),
        pytest.param(
            SMALL.replace("key: ai_token\n            name: Tokens", "key: other\n            name: T"),
            "standard input:12: plans[0].phases[0].rate_cards[0].key the key must be that of the",
            id="the wrong key for the feature",
        ),
        pytest.param(
            SMALL.replace("plan: starter}", "plan: pro}"),
            "standard input:20: subscriptions[0] no version of the plan pro is in force",
            id="no such plan",
        ),
        pytest.param("plan: []", "standard input:1: plan is not known: there are meters", id="kind"),
        pytest.param("a: [1\nb: 2", "standard input:2: is not YAML", id="no YAML"),
        pytest.param("a:\n  b: \x07", "standard input:2: is not YAML: it holds", id="control"),
        pytest.param("plans: [{key: .nan}]", "standard input:1: plans[0].key must be", id="nan"),
        pytest.param("plans: [{key: 0o9}]", "standard input:1: plans[0]", id="no octal"),
        pytest.param("plans: [{key: !!binary aGk=}]", "standard input:1: plans[0].key", id="bytes"),
        pytest.param('plans: [{key: "\\ud800"}]', "standard input:1: plans[0]", id="a surrogate"),
        pytest.param("a: &a [*a]", "standard input:1: a is nested too deep, or an alias", id="an alias in itself"),
        pytest.param("- 1", "standard input:1: must have meters", id="a list"),
        pytest.param("plans: {}", "standard input:1: plans must be a list", id="no list"),
        pytest.param("plans: [1]", "standard input:1: plans[0] must be a mapping", id="no mapping"),
        pytest.param(
            "plans: [{key: a}, {key: a}]", "standard input:1: plans[1].key a is there twice", id="twice"
        ),
    ],
)  # fmt: skip
async def test_an_error_names_line_and_key_and_nothing_is_half_applied(
    installation: Installation, given: str, said: str
) -> None:
    done = await installation.run("apply", given=given)

    assert done.exit_code == 1
    assert f"tallyman: {said}" in done.output
    assert await FeatureStore(installation.database).list("default") == ([], 0)
    assert await installation.versions() == []
    assert await CustomerStore(installation.database).every() == []


async def test_every_wrong_field_of_an_entry_is_named_at_once(installation: Installation) -> None:
    wrong = SMALL.replace("currency: USD", "currency: dollar").replace(
        "P1M\n    phases", "1M\n    phases"
    )

    done = await installation.run("apply", given=wrong)

    assert "standard input:6: plans[0].currency" in done.output
    assert "standard input:7: plans[0].billing_cadence" in done.output


async def test_what_a_meter_counts_cannot_change(installation: Installation) -> None:
    meter = "meters:\n  - {key: calls, name: Calls, aggregation: count, event_type: call}\n"
    await installation.apply(meter)

    done = await installation.run("apply", given=meter.replace("event_type: call", "event_type: x"))
    await installation.apply("meters: [{key: calls, name: All calls}]")

    assert "standard input:2: meters[0].event_type is call and cannot change" in done.output
    assert (await MeterStore(installation.database).get("default", "calls")).name == "All calls"


async def test_a_file_that_is_not_there_is_one_sentence(installation: Installation) -> None:
    done = await installation.run("apply", "nothing.yaml")

    assert (done.exit_code, done.output) == (1, "tallyman: nothing.yaml: cannot be read\n")
