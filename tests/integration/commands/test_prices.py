"""`tallyman prices`: what an import shows and does, what it ends with, and how a price is decided."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tallyman.cli import main


class Prices:
    """The command on a data directory of its own."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._runner = CliRunner(env={"TALLYMAN_DATA_DIR": str(directory / "data")})

    def run(self, *arguments: str) -> Result:
        """`tallyman prices …`."""
        return self._runner.invoke(main, ["prices", *arguments])

    def file(self, **prices: tuple[float, float]) -> str:
        """LiteLLM's list of these models of OpenAI: what a million tokens cost, in and out."""
        entries = {
            name.replace("_", "-"): {
                "litellm_provider": "openai",
                "mode": "chat",
                "input_cost_per_token": cost[0] / 1_000_000,
                "output_cost_per_token": cost[1] / 1_000_000,
            }
            for name, cost in prices.items()
        }
        path = self._directory / "prices.json"
        path.write_text(json.dumps(entries))
        return str(path)

    def of(self, model: str) -> list[str]:
        """The words of the line of a model."""
        lines = self.run("list", "--model", model).output.splitlines()
        [found] = [line.split() for line in lines if model in line.split()]
        return found


@pytest.fixture
def prices(tmp_path: Path) -> Prices:
    return Prices(tmp_path)


def test_an_import_shows_what_it_would_do_and_does_it_only_with_yes(prices: Prices) -> None:
    file = prices.file(gpt_9=(7, 70), gpt_4o=(2.5, 10), gpt_4=(40, 60))

    shown = prices.run("import", file)
    before = prices.run("list", "--model", "gpt-9")
    done = prices.run("import", file, "--yes")

    assert shown.exit_code == 2
    assert shown.output.splitlines() == [
        "? openai/gpt-4 input 30.00 / output 60.00 USD → input 40.00 / output 60.00 USD",
        "+ openai/gpt-9 input 7.00 / output 70.00 USD",
        "litellm, per million tokens: 1 new, 1 held for a decision, 1 unchanged.",
        "Nothing is changed yet: --yes puts it in force.",
    ]
    assert "7.00" not in before.output
    assert done.exit_code == 3
    assert prices.of("gpt-9")[2:4] == ["7.00", "70.00"]
    assert prices.of("gpt-4")[2:4] == ["30.00", "60.00"]


def test_what_changes_nothing_ends_well(prices: Prices) -> None:
    again = prices.run("import", prices.file(gpt_4=(30, 60)))
    built_in = prices.run("import", "--built-in")

    assert (again.exit_code, built_in.exit_code) == (0, 0)


@pytest.mark.parametrize(
    ("decision", "expected"), [("accept", ["40.00", "60.00"]), ("reject", ["30.00", "60.00"])]
)
def test_a_held_price_is_in_force_only_if_it_is_accepted(
    prices: Prices, decision: str, expected: list[str]
) -> None:
    file = prices.file(gpt_4=(40, 60))
    prices.run("import", file, "--yes")
    held = prices.run("held").output.splitlines()[1].split()[0]

    decided = prices.run(decision, held)
    again = prices.run(decision, held)

    assert decided.exit_code == 0, decided.output
    assert again.exit_code == 1
    assert prices.of("gpt-4")[2:4] == expected
    assert prices.run("held").output == "No price waits for a decision.\n"
    assert prices.run("import", file).exit_code == 0  # it is not asked again


def test_an_override_of_a_file_goes_before_the_lists(prices: Prices) -> None:
    file = prices.file(gpt_4=(1, 2))

    shown = prices.run("override", file)
    done = prices.run("override", file, "--yes", "--from", "2026-01-01")

    assert (shown.exit_code, done.exit_code) == (2, 0)
    assert prices.of("gpt-4")[2:4] == ["1.00", "2.00"]
    earlier = prices.run("list", "--model", "gpt-4", "--at", "2025-06-01")
    assert "override" not in earlier.output


def test_a_file_that_is_no_list_changes_nothing_and_says_so(prices: Prices, tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    path.write_text('{"hello": "world"}')

    refused = prices.run("import", str(path), "--yes")

    assert refused.exit_code == 1
    assert "must be a price list" in refused.output
