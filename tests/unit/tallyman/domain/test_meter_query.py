"""What can be asked of a meter."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from tallyman.domain.meter import Aggregation, DimensionFilter, Meter, MeterQuery
from tallyman.domain.meter_query import check_query
from tallyman.errors import InvalidQuery

NOW = datetime(2026, 11, 21, tzinfo=UTC)
METER = Meter(
    id="m",
    namespace="default",
    key="tokens",
    name="Tokens",
    aggregation=Aggregation.SUM,
    event_type="t",
    value_property="$.tokens",
    dimensions={"model": "$.model"},
    created_at=NOW,
    updated_at=NOW,
)


def one(operator: str, *values: str, dimension: str = "model") -> DimensionFilter:
    return DimensionFilter(dimension, operator, values)


def nest(operator: str, *filters: DimensionFilter, dimension: str = "model") -> DimensionFilter:
    return DimensionFilter(dimension, operator, nested=filters)


@pytest.mark.parametrize(
    ("changes", "code", "field"),
    [
        pytest.param(
            {"group_by": ("nope",)}, "invalid_group_by", "group_by_dimensions[0]", id="unknown"
        ),
        pytest.param(
            {"group_by": ("model", "model")},
            "invalid_group_by",
            "group_by_dimensions[1]",
            id="twice",
        ),
        pytest.param(
            {"group_by": tuple(map(str, range(101)))},
            "invalid_group_by",
            "group_by_dimensions",
            id="101",
        ),
        pytest.param({"time_zone": "Mars"}, "invalid_time_zone", "time_zone", id="no zone"),
        pytest.param({"from_": datetime(2026, 1, 1)}, "invalid_query", "from", id="naive"),  # noqa: DTZ001
        pytest.param({"to": NOW.replace(year=2300)}, "invalid_query", "to", id="too late"),
        pytest.param(
            {"filters": (one("eq", "x", dimension="nope"),)},
            "invalid_dimension_filter",
            "filters.dimensions.nope",
            id="filter by what is not there",
        ),
        pytest.param(
            {"filters": tuple(one("eq", "x") for _ in range(11))},
            "invalid_dimension_filter",
            "filters.dimensions",
            id="11 filters",
        ),
        pytest.param(
            {"filters": (one("gt", "x"),)},
            "unsupported_filter_operator",
            "filters.dimensions.model.gt",
            id="no such operator",
        ),
        pytest.param(
            {"filters": (one("contains", "x", dimension="subject"),)},
            "unsupported_filter_operator",
            "filters.dimensions.subject.contains",
            id="a subject is only equal or in",
        ),
        pytest.param(
            {"filters": (nest("and", one("exists", "true")),)},
            "unsupported_filter_operator",
            "filters.dimensions.model.and[0].exists",
            id="exists is not nested",
        ),
        pytest.param(
            {"filters": (nest("and", nest("or", nest("and", one("eq", "x")))),)},
            "invalid_dimension_filter",
            "filters.dimensions.model.and[0].or[0].and",
            id="three deep",
        ),
        pytest.param(
            {"filters": (nest("or"),)},
            "invalid_dimension_filter",
            "filters.dimensions.model.or",
            id="nothing nested",
        ),
        pytest.param(
            {"filters": (nest("or", *(one("eq", "x") for _ in range(11))),)},
            "invalid_dimension_filter",
            "filters.dimensions.model.or",
            id="11 nested",
        ),
        pytest.param(
            {"filters": (nest("or", one("eq", "x", dimension="subject")),)},
            "invalid_dimension_filter",
            "filters.dimensions.model.or[0]",
            id="nested of another dimension",
        ),
        pytest.param(
            {"filters": (one("in", *map(str, range(101))),)},
            "invalid_dimension_filter",
            "filters.dimensions.model.in",
            id="101 values",
        ),
        pytest.param(
            {"filters": (one("in"),)},
            "invalid_dimension_filter",
            "filters.dimensions.model.in",
            id="no values",
        ),
        pytest.param(
            {"filters": (one("eq", "a", "b"),)},
            "invalid_dimension_filter",
            "filters.dimensions.model.eq",
            id="two values for one",
        ),
        pytest.param(
            {"filters": (one("exists", "maybe"),)},
            "invalid_dimension_filter",
            "filters.dimensions.model.exists",
            id="neither true nor false",
        ),
        pytest.param(
            {"filters": (one("eq", "x" * 1025),)},
            "invalid_dimension_filter",
            "filters.dimensions.model.eq",
            id="a long value",
        ),
    ],
)
def test_what_cannot_be_answered_is_refused_with_code_and_field(
    changes: dict[str, Any], code: str, field: str
) -> None:
    with pytest.raises(InvalidQuery) as caught:
        check_query(METER, MeterQuery(**changes))

    assert (caught.value.code, caught.value.parameters[0].field) == (code, field)


def test_everything_else_may_be_asked() -> None:
    query = MeterQuery(
        from_=NOW.astimezone(timezone(timedelta(hours=5))),
        to=NOW,
        time_zone="Europe/Berlin",
        group_by=("model", "subject"),
        filters=(nest("and", nest("or", one("eq", "x"), one("in", "a", "b"))),),
    )

    assert check_query(METER, query) == query


def test_a_filter_by_subject_also_splits_by_it() -> None:
    query = MeterQuery(group_by=("model",), filters=(one("eq", "acme", dimension="subject"),))

    assert check_query(METER, query) == replace(query, group_by=("model", "subject"))
