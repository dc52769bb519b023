"""A meter query as text: what is SQL is ours, what is asked is a parameter."""

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tallyman.domain.meter import (
    Aggregation,
    DimensionFilter,
    Granularity,
    Meter,
    MeterQuery,
    MeterRow,
)
from tallyman.store.json_sql import quote, text_at
from tallyman.store.meter_sql import read_rows, render

NOW = datetime(2026, 11, 21, tzinfo=UTC)
METER = Meter(
    id="m",
    namespace="default",
    key="tokens",
    name="Tokens",
    aggregation=Aggregation.SUM,
    event_type="llm.tokens",
    value_property="$.tokens",
    dimensions={"model": "$.model", "type": "$.type", "status": "$.status_code"},
    created_at=NOW,
    updated_at=NOW,
)
NUMBER = (
    "if(tokens_text = '', toDecimal256(tokens, 18), if(abs(toDecimal256OrNull(if("
    "length(tokens_text) <= 60 AND match(tokens_text, "
    r"'^[+-]?([0-9]+\\.?[0-9]*|\\.[0-9]+)([eE](\\+?[0-3]?[0-9]|-[0-9]{1,3}))?$'), tokens_text, ''), 18)) "
    "< toDecimal256('10000000000000000000000000000000000000000', 18), toDecimal256OrNull(if("
    "length(tokens_text) <= 60 AND match(tokens_text, "
    r"'^[+-]?([0-9]+\\.?[0-9]*|\\.[0-9]+)([eE](\\+?[0-3]?[0-9]|-[0-9]{1,3}))?$'), tokens_text, ''), 18), NULL))"
)


def test_the_built_in_meter_reads_no_json() -> None:
    query = MeterQuery(
        from_=datetime(2026, 11, 1, tzinfo=UTC),
        to=datetime(2026, 12, 1, tzinfo=UTC),
        granularity=Granularity.DAY,
        time_zone="Europe/Berlin",
        group_by=("model", "subject"),
    )

    sql, parameters = render(METER, query)

    assert sql == (
        "SELECT model AS d0, subject AS d1, toDate32(toTimeZone(time, {zone:String})) AS w, "
        f"min(time), max(time), sum({NUMBER}) FROM events FINAL "
        "WHERE namespace = {namespace:String} AND type = {type:String} "
        "AND time >= fromUnixTimestamp64Micro({from:Int64}, 'UTC') "
        "AND time < fromUnixTimestamp64Micro({to:Int64}, 'UTC') "
        "AND change IN ('', 'amended') AND (source, id, revision) GLOBAL NOT IN (SELECT source, id, "
        "arrayJoin(range(revision)) FROM events WHERE revision > 0 AND namespace = {namespace:String}) "
        f"GROUP BY d0, d1, w HAVING count({NUMBER}) > 0 ORDER BY w, d0, d1"
    )
    assert parameters == {
        "namespace": "default",
        "type": "llm.tokens",
        "zone": "Europe/Berlin",
        "from": 1793491200000000,
        "to": 1796083200000000,
    }


@pytest.mark.parametrize(
    ("aggregation", "selected"),
    [
        (Aggregation.COUNT, "count() FROM"),
        (Aggregation.UNIQUE_COUNT, "uniqExactIf("),
        (Aggregation.AVG, f"sum({NUMBER}), count({NUMBER}) FROM"),
        (Aggregation.MIN, f"min({NUMBER}) FROM"),
        (Aggregation.MAX, f"max({NUMBER}) FROM"),
        (Aggregation.LATEST, f"argMaxIf({NUMBER}, (time, ingested_at, source, id), "),
    ],
)
def test_each_aggregation_has_its_function(aggregation: Aggregation, selected: str) -> None:
    assert (
        f"max(time), {selected}" in render(replace(METER, aggregation=aggregation), MeterQuery())[0]
    )


def test_filters_and_only_become_conditions_whose_values_are_parameters() -> None:
    model = [
        DimensionFilter("model", "contains", ("gpt",)),
        DimensionFilter("model", "nin", ("a", "b")),
    ]
    query = MeterQuery(
        filters=(
            DimensionFilter("subject", "in", ("acme",)),
            DimensionFilter("model", "or", nested=tuple(model)),
        )
    )

    sql, parameters = render(replace(METER, only=("type", "request")), query)

    assert (
        "(positionCaseInsensitiveUTF8(model, {f0:String}) > 0 "
        "OR model NOT IN {f1:Array(String)}) AND token_type = {f2:String} GROUP BY"
    ) in sql
    assert "FINAL PREWHERE subject IN {f3:Array(String)} WHERE " in sql
    assert {name: parameters[name] for name in ("f0", "f1", "f2", "f3")} == {
        "f0": "gpt",
        "f1": ["a", "b"],
        "f2": "request",
        "f3": ["acme"],
    }


@given(st.text(min_size=1), st.text(min_size=1), st.sampled_from(["eq", "neq", "contains"]))
def test_no_name_or_value_of_a_user_is_in_the_sql(name: str, value: str, operator: str) -> None:
    marked, secret = f"‹{name}›", f"‹{value}›"
    asked = replace(METER, namespace=secret, event_type=secret, dimensions={marked: "$.model"})
    query = MeterQuery(group_by=(marked,), filters=(DimensionFilter(marked, operator, (secret,)),))

    assert "‹" not in render(asked, query)[0]


@given(st.text())
def test_a_quoted_text_ends_where_it_should(text: str) -> None:
    inner = quote(text)[1:-1]

    assert "'" not in inner.replace("\\\\", "").replace("\\'", "")
    assert not inner.replace("\\\\", "").endswith("\\")


def test_an_index_looks_into_arrays_only() -> None:
    assert text_at("data", ["a", 0]).startswith("if(JSONType(data, 'a') = 'Array', ")


@pytest.mark.parametrize(
    ("query", "row", "read"),
    [
        pytest.param(
            MeterQuery(),
            (0, datetime(2026, 11, 1, 9, 24, 33), datetime(2026, 11, 2, 9, 24, 33), Decimal("1.5")),  # noqa: DTZ001
            MeterRow(
                Decimal("1.5"),
                datetime(2026, 11, 1, 9, 24, tzinfo=UTC),
                datetime(2026, 11, 2, 9, 25, tzinfo=UTC),
                {},
            ),
            id="without from and to a row has the minutes of its first and last event",
        ),
        pytest.param(
            MeterQuery(from_=NOW, to=NOW.replace(year=2027), group_by=("model",)),
            ("gpt", 0, datetime(2026, 12, 1), datetime(2026, 12, 1), Decimal(3)),  # noqa: DTZ001
            MeterRow(Decimal(3), NOW, NOW.replace(year=2027), {"model": "gpt"}),
            id="from and to are as they were asked",
        ),
        pytest.param(
            MeterQuery(granularity=Granularity.MONTH, time_zone="Europe/Berlin"),
            (202603, datetime(2026, 3, 5), datetime(2026, 3, 5), Decimal(3)),  # noqa: DTZ001
            MeterRow(
                Decimal(3),
                datetime(2026, 2, 28, 23, tzinfo=UTC),
                datetime(2026, 3, 31, 22, tzinfo=UTC),
                {},
            ),
            id="a window is whole, whatever was asked",
        ),
    ],
)
def test_a_row_says_which_time_it_is_of(query: MeterQuery, row: Any, read: MeterRow) -> None:
    assert read_rows(METER, query, [row]) == [read]


def test_an_average_has_18_places_and_keeps_them_for_great_sums() -> None:
    row = (0, datetime(2026, 11, 1), datetime(2026, 11, 1), Decimal("2" + "0" * 45), 3)  # noqa: DTZ001

    [read] = read_rows(replace(METER, aggregation=Aggregation.AVG), MeterQuery(), [row])

    assert read.value == Decimal("6" * 45 + "." + "6" * 17 + "7")
