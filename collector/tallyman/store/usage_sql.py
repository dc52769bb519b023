"""Renders the counting of many customers' usage at once as (sql, parameters), and reads the rows. Pure.

One query reads the events once for every customer and every filter of one kind of value. What a value
and a dimension are is `meter_sql.py`'s.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from functools import cached_property
from itertools import chain
from typing import Any, Final

from tallyman.domain.counting import Metered
from tallyman.domain.meter import Aggregation, DimensionFilter, Meter
from tallyman.domain.money import EXACT, total
from tallyman.domain.period import Period, microseconds, milliseconds
from tallyman.domain.usage import Usage, UsageWindow
from tallyman.store.meter_sql import (
    Parameters,
    aggregates_of,
    dimension_text,
    filter_condition,
    number_of,
    text_of,
    value_of,
)
from tallyman.store.revision_sql import counting, of_type_between
from tallyman.store.slot_sql import IN_SLOT, Parts, slot_table, subject_table

SHOWN: Final = ("model", "type")  # what an invoice splits its quantities by, where a meter can
ADDITIVE: Final = frozenset({Aggregation.SUM, Aggregation.COUNT})
NOTHING: Final = Decimal(0)
_WATERMARK: Final = "fromUnixTimestamp64Milli({watermark:Int64}, 'UTC')"


@dataclass(frozen=True)
class Question:
    """How much of what is metered is of these subjects, each in its part of the period."""

    metered: Metered
    period: Period
    parts: Parts


@dataclass(frozen=True)
class Plan:
    """What one query answers: all questions about one kind of value.

    `slots` are whose it is, `cards` which events count; a question is one of each.
    """

    meter: Meter
    slots: tuple[Parts, ...]
    cards: tuple[Metered, ...]
    place: dict[int, tuple[int, int]]  # of a question, by its index: its slot and card

    @cached_property
    def is_by_subject(self) -> bool:
        """Whether all slots are of one period and no subject is in two: then nothing is joined."""
        every = [part for slot in self.slots for part in slot]
        return len({period for _, period in every}) == 1 and len(every) == len(
            {subject for subject, _ in every}
        )


def plans(questions: Sequence[Question]) -> list[Plan]:
    """The fewest queries that answer all; questions about nobody are left out."""
    by_source: dict[tuple[Any, ...], list[int]] = defaultdict(list)
    for index, question in enumerate(questions):
        if question.parts:
            by_source[_source(question.metered.meter)].append(index)
    made = []
    for indexes in by_source.values():
        slots: dict[Parts, int] = {}
        cards: dict[str, int] = {}
        metered: list[Metered] = []
        place = {}
        for index in indexes:
            question = questions[index]
            meter = question.metered.meter
            shown = [(name, dimension_text(meter, name)) for name in _shown(meter)]
            card = repr((conditions_of(question.metered), shown))
            if card not in cards:
                cards[card] = len(metered)
                metered.append(question.metered)
            place[index] = slots.setdefault(question.parts, len(slots)), cards[card]
        made.append(Plan(metered[0].meter, tuple(slots), tuple(metered), place))
    return made


def portions(plan: Plan, most: int) -> Iterator[Plan]:
    """The same in several plans, none of them with more slots than that."""
    if len(plan.slots) <= most:
        yield plan
        return
    for start in range(0, len(plan.slots), most):
        end = start + most
        place = {
            index: (slot - start, card)
            for index, (slot, card) in plan.place.items()
            if start <= slot < end
        }
        yield replace(plan, slots=plan.slots[start:end], place=place)


def render(plan: Plan, watermark: datetime) -> tuple[str, Parameters]:
    """The sums by owner, card, the dimensions shown, and the type of token.

    Filters are about dimensions, so events are grouped by those first, and each group is filtered.
    """
    parameters = _parameters(plan, watermark)
    texts = _texts(plan)
    names = {text: f"k{at}" for at, text in enumerate(texts)}
    keys = "".join(f", {text} AS {name}" for text, name in names.items())
    counted = _counted(plan.meter)
    cards = ", ".join(
        f"if({_all(card, names, parameters)}, {at}, -1)" for at, card in enumerate(plan.cards)
    )
    shown = "".join(f", {name}" for name in names.values())
    sql = (
        f"SELECT owner, arrayJoin(arrayFilter(c -> c >= 0, [{cards}])) AS card{shown}, token_type, "  # noqa: S608 – texts are quoted, values are parameters
        "sum(n), sum(v), sum(e), sum(w) FROM ("
        f"SELECT {_owner(plan)} AS owner{keys}, token_type, count({counted}) AS n, "
        f"{_sum(plan.meter)} AS v, sumIf(toInt128(tokens), usage_source = 'estimated') AS e, "
        f"sum(toInt128(waived_tokens)) AS w {_from(plan)} "
        f"GROUP BY owner{shown}, token_type HAVING n > 0) GROUP BY owner, card{shown}, token_type"
    )
    return sql, parameters


def render_whole(plan: Plan, watermark: datetime) -> tuple[str, Parameters]:
    """The value by owner and card where values do not add up: a maximum, different values."""
    parameters = _parameters(plan, watermark)
    cards = ", ".join(
        f"if({_all(card, {}, parameters)}, {at}, -1)" for at, card in enumerate(plan.cards)
    )
    sql = (
        f"SELECT {_owner(plan, joined=True)} AS owner, "
        f"arrayJoin(arrayFilter(c -> c >= 0, [{cards}])) AS card, "
        f"{', '.join(aggregates_of(plan.meter))} {_from(plan, joined=True)} GROUP BY owner, card"
    )
    return sql, parameters


def read(
    plan: Plan, questions: Sequence[Question], rows: Sequence[Any], whole: Sequence[Any] = ()
) -> dict[int, Usage]:
    """The usage of each of the plan's questions, by its index."""
    slot_of = {subject: at for at, slot in enumerate(plan.slots) for subject, _ in slot}
    names = {text: at + 2 for at, text in enumerate(_texts(plan))}
    shown_at = [
        tuple((name, names[dimension_text(card.meter, name)]) for name in _shown(card.meter))
        for card in plan.cards
    ]
    tallies: dict[tuple[int, int], _Tally] = defaultdict(_Tally)
    for row in rows:
        slot = slot_of[row[0]] if plan.is_by_subject else row[0]
        dimensions = tuple((name, row[at]) for name, at in shown_at[row[1]])
        tallies[slot, row[1]].add(dimensions, *row[-5:])
    values = {
        (row[0], row[1]): value_of(plan.meter.aggregation, row[2:])
        for row in whole
        if row[-1]  # none of its events has a value, or all are 0
    }
    additive = plan.meter.aggregation in ADDITIVE
    usages = {}
    for index, place in plan.place.items():
        tally = tallies.get(place) or _Tally()
        value = None if additive else values.get(place, NOTHING)
        usages[index] = tally.usage(questions[index].period, value)
    return usages


class _Tally:
    """What is behind one question, as its rows are read."""

    def __init__(self) -> None:
        self._quantities: dict[tuple[tuple[str, str], ...], Decimal] = {}
        self._events: dict[str, int] = defaultdict(int)
        self._estimated = self._waived = 0

    def add(self, dimensions: tuple[tuple[str, str], ...], token_type: str, *sums: Any) -> None:
        events, value, estimated, waived = sums
        before = self._quantities.get(dimensions, NOTHING)
        self._quantities[dimensions] = EXACT.add(before, Decimal(value or 0).normalize(EXACT))
        self._events[token_type] += events
        self._estimated += estimated or 0
        self._waived += waived or 0

    def usage(self, period: Period, value: Decimal | None) -> Usage:
        """Of a call there is one event of each type, so the most frequent type has its calls."""
        windows = tuple(
            UsageWindow(period, _plain(self._quantities[dimensions]), dimensions)
            for dimensions in sorted(self._quantities)
        )
        return Usage(
            _plain(total(w.quantity for w in windows) if value is None else value),
            windows if value is None else (),
            sum(self._events.values()),
            max(self._events.values(), default=0),
            Decimal(self._estimated),
            Decimal(self._waived),
        )


def _plain(number: Decimal) -> Decimal:
    """Without trailing zeros or an exponent, so that the same number is always the same text."""
    return Decimal(f"{number.normalize(EXACT):f}")


def _source(meter: Meter) -> tuple[Any, ...]:
    """Meters that are equal in this are counted by one query."""
    value = None if meter.aggregation is Aggregation.COUNT else meter.value_property
    return meter.namespace, meter.event_type, meter.aggregation, value, meter.events_from


def conditions_of(metered: Metered) -> list[tuple[str, DimensionFilter]]:
    """Every filter, with the text it is about."""
    filters = list(metered.filters)
    if metered.meter.only is not None:
        filters.append(DimensionFilter(metered.meter.only[0], "eq", (metered.meter.only[1],)))
    return [(dimension_text(metered.meter, one.dimension), one) for one in filters]


def _shown(meter: Meter) -> tuple[str, ...]:
    return tuple(name for name in SHOWN if name in meter.dimensions)


def _texts(plan: Plan) -> list[str]:
    """The texts that events are grouped by: shown, or filtered by."""
    filtered = (text for card in plan.cards for text, _ in conditions_of(card))
    shown = (dimension_text(card.meter, n) for card in plan.cards for n in _shown(card.meter))
    return list(dict.fromkeys(chain(shown, filtered)))


def _all(card: Metered, names: dict[str, str], parameters: Parameters) -> str:
    conditions = [
        filter_condition(one, names.get(text, text), parameters)
        for text, one in conditions_of(card)
    ]
    return " AND ".join(conditions) or "1"


def _counted(meter: Meter) -> str:
    """What there must be for an event to count."""
    if meter.aggregation is Aggregation.COUNT:
        return ""
    if meter.aggregation is Aggregation.UNIQUE_COUNT:
        return f"nullIf({text_of(meter)}, '')"
    return number_of(meter)


def _sum(meter: Meter) -> str:
    return f"sum({number_of(meter)})" if meter.aggregation is Aggregation.SUM else "count()"


def _owner(plan: Plan, *, joined: bool = False) -> str:
    return "subject" if plan.is_by_subject and not joined else "s.slot"


def _from(plan: Plan, *, joined: bool = False) -> str:
    """The events of the plan's slots, each once."""
    where = (
        f"namespace = {{namespace:String}} AND {' AND '.join(of_type_between())} "
        f"AND stored_at <= {_WATERMARK} AND {counting(_WATERMARK)} "
        f"AND events.subject IN {subject_table(plan.slots)}"
    )
    if plan.is_by_subject and not joined:
        return f"FROM events FINAL WHERE {where}"
    return (
        f"FROM events FINAL INNER JOIN {slot_table(plan.slots)} AS s "
        f"ON events.subject = s.subject WHERE {where} AND {IN_SLOT}"
    )


def _parameters(plan: Plan, watermark: datetime) -> Parameters:
    periods = [period for slot in plan.slots for _, period in slot]
    begins = min(period.from_ for period in periods)
    if plan.meter.events_from is not None:
        begins = max(begins, plan.meter.events_from)
    return {
        "namespace": plan.meter.namespace,
        "type": plan.meter.event_type,
        "from": microseconds(begins),
        "to": microseconds(max(period.to for period in periods)),
        "watermark": milliseconds(watermark),
    }
