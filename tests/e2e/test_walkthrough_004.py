"""The walkthrough "Usage-Based Billing for AI Agents with FastAPI and Kong", pointed at Tallyman.

The example's model says a question back at one token a word, so every count can be made by hand:
the instruction's words + the question's + the answer's.

| who asks for what               | instruction | question | answer | tokens |
|---------------------------------|-------------|----------|--------|--------|
| Alice, a haiku                  | 6           | 6        | 6      | 18     |
| Alice, what a REST API is       | 6           | 9        | 9      | 24     |
| Alice, a product description    | 6           | 10       | 10     | 26     |
| Alice, a summary                | 5           | 46       | 46     | 97     |
| Alice, what is left of 15,000   | 6           | 14,000   | 871    | 14,877 |
| Bob, a welcome email            | 6           | 9        | 9      | 24     |
| Bob, the key metrics            | 11          | 29       | 29     | 69     |

Her first two and the walkthrough's event by hand (100 tokens) are from before her subscription. So
26 + 97 + 14,877 = 15,000 tokens are billed, at 0.000002 USD: 0.03 USD.
"""

import tomllib
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.e2e.curl import Lines
from tests.integration.api.serving import serving, tallyman
from tests.rigs.agent import agent
from tests.rigs.plugin import until
from tests.rigs.rest import Answer, Rest

LINES = Path(__file__).with_name("walkthrough_004.sh")
KEY_IN_OUTPUT = r"(tm_\S+)"

GENERATE, SUMMARIZE, ANALYZE = "/api/generate", "/api/summarize", "/api/analyze"
BY_HAND = 100  # in the event of the walkthrough's own
BEFORE_THE_START = 18 + BY_HAND + 24
BILLED = 15_000
# What is left of it after the two calls of the walkthrough: 6 + 14,000 + 871.
WORDS, MOST_WORDS = 14_000, 871

USED = {
    ("user-001", GENERATE): BEFORE_THE_START + 26 + 6 + WORDS + MOST_WORDS,
    ("user-001", SUMMARIZE): 97,
    ("user-002", GENERATE): 24,
    ("user-002", ANALYZE): 69,
}


async def test_every_line_gives_what_the_walkthrough_says(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        rest = Rest(f"http://127.0.0.1:{server.port}", server.hear(KEY_IN_OUTPUT)[1])
        address = f"{rest.address}/v3/openmeter"
        with agent(tmp_path / "agent.log", address, rest.key) as app:
            environment = {"KONNECT_API_URL": address, "KONNECT_TOKEN": rest.key, "APP_URL": app}
            lines = Lines(LINES, environment)
            assert_users_need_a_key(lines)
            assert_events_and_meters_are_taken(lines)
            await until(lambda: sum(usage_in(lines).values()) == BEFORE_THE_START)
            assert_a_plan_is_published(lines)
            alice = assert_alice_subscribes(lines)
            for call in ("Alice generates", "Alice summarizes", "Bob generates", "Bob analyzes"):
                assert lines.run(call).status == 200
            assert lines.run("ours: Alice generates more", PROMPT="word " * WORDS).status == 200
            await until(lambda: usage_in(lines) == USED)

        assert_usage_of_nobody_is_shown(rest, "user-002")
        assert_alice_owes_three_cents(tmp_path)
        assert_the_invoice_can_be_read(rest, alice)
        assert lines.run("entitlement access", alice_customer_id=alice) == Answer(200, {"data": []})

    assert lines.not_run == set()


def usage_in(lines: Lines) -> dict[tuple[str, str], int]:
    """Tokens by user and endpoint, as the meter of all tokens says."""
    rows = lines.run("from the dashboard: usage by user").body["data"]
    named = [(row["dimensions"], int(row["value"])) for row in rows]
    assert {dimensions["model"] for dimensions, _ in named} <= {"gpt-4o-mini"}
    return {(names["subject"], names["endpoint"]): tokens for names, tokens in named}


def assert_users_need_a_key(lines: Lines) -> None:
    refused = lines.run("a call without a key")
    answered = lines.run("a call with a key")

    assert refused == Answer(401, {"detail": "Missing API key"})
    assert answered.status == 200
    assert answered.body["usage"] == {
        "prompt_tokens": 12,
        "completion_tokens": 6,
        "total_tokens": 18,
    }


def assert_events_and_meters_are_taken(lines: Lines) -> None:
    event = "an event by hand"
    assert (lines.run(event).status, lines.run(event).status) == (202, 202)  # the same: once

    meters = [lines.run("a meter of all tokens"), lines.run("a meter of the answers' tokens")]
    keys = ["llm_total_tokens", "llm_completion_tokens"]
    assert [(made.status, made.body["key"]) for made in meters] == [(201, key) for key in keys]
    assert lines.run("a call to see events flow").status == 200
    listed = {meter["key"] for meter in lines.run("the meters").body["data"]}
    assert set(keys) <= listed


def assert_a_plan_is_published(lines: Lines) -> None:
    meters = {meter["key"]: meter["id"] for meter in lines.run("the meters").body["data"]}
    feature = lines.run("from the dashboard: a feature", METER_ID=meters["llm_total_tokens"])
    draft = lines.run("from the dashboard: a plan", FEATURE_ID=feature.body["id"])
    published = lines.run("from the dashboard: publish the plan", PLAN_ID=draft.body["id"])

    assert (feature.status, draft.status, published.status) == (201, 201, 200)
    assert (draft.body["status"], published.body["status"]) == ("draft", "active")
    (card,) = published.body["phases"][0]["rate_cards"]
    assert card["price"] == {"type": "unit", "amount": "0.000002", "amount_per_million": "2"}


def assert_alice_subscribes(lines: Lines) -> str:
    """Her id as a customer."""
    alice = lines.run("a customer")
    subscription = lines.run("a subscription")

    assert (alice.status, subscription.status) == (201, 201)
    assert subscription.body["status"] == "active"
    before = subscription.body["usage_before_start"]["quantities"]
    assert before == [{"feature_key": "ai_tokens", "quantity": str(BEFORE_THE_START)}]
    assert subscription.body["customer_id"] == alice.body["id"]
    return str(alice.body["id"])


def assert_usage_of_nobody_is_shown(rest: Rest, subject: str) -> None:
    """Bob is no customer: the walkthrough's most common mistake."""
    events = rest.get(f"events?filter[subject]={subject}")["data"]

    assert [(event["customer"], event["unattributed"]["code"]) for event in events] == [
        (None, "no_customer")
    ] * 2


def assert_alice_owes_three_cents(directory: Path) -> None:
    preview = tallyman(directory, "preview", "user-001")
    assert preview.returncode == 0, preview.stderr
    assert "Not yet billed: 0.03 USD" in preview.stdout

    after_the_period = (datetime.now(UTC) + timedelta(days=32)).isoformat()
    billed = tallyman(directory, "bill", "--ahead", "--at", after_the_period)
    assert billed.returncode == 0, billed.stderr
    assert "1 invoice made or moved: 0.03 USD" in billed.stdout
    again = tallyman(directory, "bill", "--ahead", "--at", after_the_period)
    assert again.stdout == "Nothing is due.\n"


def assert_the_invoice_can_be_read(rest: Rest, alice: str) -> None:
    (invoice,) = rest.get(f"billing/invoices?filter[customer_id]={alice}")["data"]
    (line,) = invoice["lines"]
    usage = line["explanation"]["usage"]

    assert (invoice["customer"]["key"], invoice["totals"]["total"]) == ("user-001", "0.03")
    assert line["usage_quantity_detail"]["raw_quantity"] == str(BILLED)
    assert line["rate_card"]["price"]["amount"] == "0.000002"
    assert sum(int(window["quantity"]) for window in usage["windows"]) == BILLED
    assert {window["dimensions"]["model"] for window in usage["windows"]} == {"gpt-4o-mini"}
    type_, pdf = rest.file(f"billing/invoices/{invoice['id']}/pdf")
    assert (type_, pdf[:5]) == ("application/pdf", b"%PDF-")


async def test_events_that_the_collector_could_not_take_are_sent_again_with_their_id(
    tmp_path: Path,
) -> None:
    """The collector is away when the answer is given, and back before the application gives up."""
    with serving(tmp_path) as server:
        key, port = server.hear(KEY_IN_OUTPUT)[1], server.port
        server.stop()
    address = f"http://127.0.0.1:{port}/v3/openmeter"
    with agent(tmp_path / "agent.log", address, key) as app:
        lines = Lines(LINES, {"KONNECT_API_URL": address, "KONNECT_TOKEN": key, "APP_URL": app})
        assert lines.run("Alice generates").status == 200
        with serving(tmp_path, TALLYMAN_PORT=str(port)) as server:
            assert server.port == port
            lines.run("a meter of all tokens")
            await until(lambda: usage_in(lines) == {("user-001", GENERATE): 26}, patience=60)


def test_the_example_needs_what_the_tests_run_it_with() -> None:
    """Its requirements are among those of the extra `test`, with the same bounds."""
    root = LINES.parents[2]
    extras = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    asked = (root / "examples/fastapi_agent/requirements.txt").read_text().split()

    assert set(asked) <= set(extras["optional-dependencies"]["test"])
