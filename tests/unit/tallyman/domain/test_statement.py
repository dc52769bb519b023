"""A statement is whole and unchanged, or the line that is not is named."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tallyman.domain.statement import Chain, check
from tallyman.errors import InvalidInput


def lines() -> list[str]:
    chain = Chain()
    usage = [("1", "request"), ("2.5", "response"), ("4", "request")]
    events = [{"id": q, "model": "gpt-4o", "type": type_, "quantity": q} for q, type_ in usage]
    return [chain.begin({"customer": "Müller"}), *map(chain.add, events), chain.end()]


def test_a_whole_statement_is_what_its_events_sum_up_to() -> None:
    found = check(lines())

    assert (found["customer"], found["events"]) == ("Müller", 3)
    assert found["usage"] == [
        {"model": "gpt-4o", "type": "request", "quantity": "5"},
        {"model": "gpt-4o", "type": "response", "quantity": "2.5"},
    ]
    assert found["hash"] in lines()[-1]


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        pytest.param(
            lambda x: [*x[:2], x[2].replace("2.5", "2.4"), *x[3:]], "line 3", id="changed"
        ),
        pytest.param(lambda x: [*x[:1], *x[2:]], "line 2", id="a line is gone"),
        pytest.param(lambda x: [x[0], x[2], x[1], *x[3:]], "line 2", id="another order"),
        pytest.param(lambda x: x[:-1], "no end", id="cut off"),
        pytest.param(lambda _: [], "no end", id="nothing"),
        pytest.param(lambda x: [*x, x[-1]], "line 6", id="more after the end"),
        pytest.param(lambda x: ["hello"], "line 1", id="something else"),
        pytest.param(lambda x: [x[0], x[1] + " ", *x[2:]], "line 2", id="a space more"),
    ],
)
def test_what_was_changed_is_named(spoil: Callable[[list[str]], list[str]], says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        check(spoil(lines()))


def test_a_chain_made_again_around_wrong_sums_is_refused() -> None:
    chain = Chain()
    made = [chain.begin({}), chain.add({"model": "m", "type": "t", "quantity": "1"})]
    made.append(chain._line({"events": 1, "usage": []}))

    with pytest.raises(InvalidInput, match="sum of the events"):
        check(made)


@st.composite
def spoilt(draw: st.DrawFn) -> tuple[list[str], list[str]]:
    """A statement, and the same with lines changed, cut, moved, doubled or put in."""
    texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n"), max_size=6)
    quantities = st.decimals(0, 10**12, places=3).map(str)
    events = st.fixed_dictionaries({"model": texts, "type": texts, "quantity": quantities})
    chain = Chain()
    customer = {"customer": draw(texts)}
    many = draw(st.lists(events, max_size=6))
    whole = [chain.begin(customer), *map(chain.add, many), chain.end()]
    lines = list(whole)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(lines) - 1)) if lines else 0
        match draw(st.sampled_from(["change", "cut", "move", "double", "insert"])):
            case "change" if lines:
                place = draw(st.integers(0, len(lines[at]) - 1))
                letter = draw(st.sampled_from('0129afz"{}, '))
                lines[at] = lines[at][:place] + letter + lines[at][place + 1 :]
            case "cut":
                del lines[at : at + draw(st.integers(1, 3))]
            case "move" if lines:
                lines.insert(draw(st.integers(0, len(lines) - 1)), lines.pop(at))
            case "double" if lines:
                lines.insert(at, lines[at])
            case _:
                lines.insert(at, draw(st.sampled_from([Chain().begin({}), *whole, "{}", ""])))
    return whole, lines


@given(spoilt())
def test_any_change_of_a_statement_is_found(given: tuple[list[str], list[str]]) -> None:
    whole, lines = given
    if lines == whole:
        assert check(lines)["hash"] in whole[-1]
        return

    with pytest.raises(InvalidInput):
        check(lines)
