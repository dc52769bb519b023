"""Why numbers are missing: what the node's last heartbeat says about each part of a hole."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from tallyman.domain.completeness import (
    GapKind,
    Heard,
    Heartbeat,
    Hole,
    HourBalance,
    below,
    less,
    sort_gap,
    without,
)

NOW = datetime(2026, 11, 21, 9, tzinfo=UTC)
LATE, ASIDE, LOST = GapKind.LATE, GapKind.SET_ASIDE, GapKind.LOST


def hole(first: int, last: int) -> Hole:
    return Hole("kong-1", first, last, NOW, NOW)


def heartbeat(
    newest: int, oldest: int | None, first: int = 1, *aside: tuple[int, int]
) -> Heartbeat:
    return Heartbeat("kong-1", NOW, first, newest, oldest, set_aside_ranges=aside)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        pytest.param(None, [(10, 19, LATE)], id="a node that was never heard may still send"),
        pytest.param(
            heartbeat(50, None), [(10, 19, LOST)], id="an empty spool has nothing to send"
        ),
        pytest.param(heartbeat(50, 20), [(10, 19, LOST)], id="the spool has gone past the hole"),
        pytest.param(heartbeat(50, 10), [(10, 19, LATE)], id="the spool still holds the hole"),
        pytest.param(heartbeat(50, 3), [(10, 19, LATE)], id="and what is before it"),
        pytest.param(
            heartbeat(50, 14), [(10, 13, LOST), (14, 19, LATE)], id="the spool holds a part"
        ),
        pytest.param(
            heartbeat(12, None), [(10, 12, LOST), (13, 19, LATE)], id="the rest is newer than it"
        ),
        pytest.param(
            heartbeat(50, None, 1, (3, 3), (5, 10), (14, 15), (19, 10**12)),
            [(10, 10, ASIDE), (11, 13, LOST), (14, 15, ASIDE), (16, 18, LOST), (19, 19, ASIDE)],
            id="what is set aside is neither",
        ),
    ],
)
def test_a_hole_is_late_set_aside_or_lost_by_what_the_node_has_said(
    said: Heartbeat | None, expected: list[tuple[int, int, GapKind]]
) -> None:
    gaps = sort_gap(hole(10, 19), said)

    assert [(gap.hole.first, gap.hole.last, gap.kind) for gap in gaps] == expected
    assert not any(gap.is_upper_bound for gap in gaps)


def test_a_hole_before_a_new_spool_is_an_upper_bound() -> None:
    [gap] = sort_gap(hole(10, 10_000), heartbeat(10_050, None, 10_001))
    both = sort_gap(hole(10, 10_020), heartbeat(10_050, None, 10_001))

    assert (gap.kind, gap.is_upper_bound) == (LOST, True)
    assert [(one.hole.first, one.hole.last, one.is_upper_bound) for one in both] == [
        (10, 10_000, True), (10_001, 10_020, False),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("before", "spools", "expected"),
    [
        pytest.param(None, [(1, 100, 100)], 100, id="a node counts from nothing"),
        pytest.param((1, 5), [(1, 5, 6)], 1, id="one that was heard before from what it said"),
        pytest.param((1, 5), [(1, 8, 9)], 4, id="also where it rose unheard"),
        pytest.param((1, 5), [(11, 6, 6)], 6, id="a new spool from nothing"),
        pytest.param((1, 5), [(1, 7, 7), (11, 2, 3)], 5, id="after the old one's last"),
        pytest.param((1, 5), [(1, 2, 3)], 3, id="a spool that begins anew with the same number"),
        pytest.param((1, 5), [(1, 6, 2)], 3, id="also in between"),
    ],
)
def test_a_count_rises_from_nothing_with_each_spool(
    before: tuple[int, int] | None, spools: list[tuple[int, int, int]], expected: int
) -> None:
    def said(first: int, refused: int) -> Heartbeat:
        return Heartbeat("kong-1", NOW, first, 50, None, refused=refused)

    pairs = tuple((said(first, begin), said(first, end)) for first, begin, end in spools)
    heard = Heard(pairs, said(*before) if before else None, pairs[-1][1], NOW, NOW)

    assert heard.risen(lambda beat: beat.refused) == expected


def test_what_logs_have_shown_is_no_hole() -> None:
    mine = [replace(one, namespace="default") for one in (hole(10, 19), hole(30, 30))]
    left = less(
        mine, {("default", "kong-1"): [(15, 16), (5, 10), (18, 99)], ("", "kong-1"): [(1, 99)]}
    )

    assert [(one.first, one.last) for one in left] == [(11, 14), (17, 17)]


def test_what_is_found_elsewhere_is_no_hole() -> None:
    left = without([hole(10, 14), hole(20, 20)], {"kong-1": [11, 20, 99], "kong-2": [12]})

    assert [(one.first, one.last) for one in left] == [(10, 10), (12, 14)]


def test_holes_in_their_hundred_thousands_are_looked_for_among_as_many_numbers() -> None:
    """One by one it would take hours; in Kafka, a hole is a message that is dead."""
    count = 200_000
    holes = [hole(10 * at, 10 * at + 2) for at in range(1, count)]

    left = without(holes, {"kong-1": [10 * at + 1 for at in range(count)]})
    rest = less(holes, {("", "kong-1"): [(10 * at, 10 * at + 1) for at in range(count)]})

    assert [(one.first, one.last) for one in left] == [
        (10 * at + end, 10 * at + end) for at in range(1, count) for end in (0, 2)
    ]
    assert [(one.first, one.last) for one in rest] == [
        (10 * at + 2, 10 * at + 2) for at in range(1, count)
    ]


def test_accepted_is_the_sum_of_what_became_of_it() -> None:
    assert HourBalance(NOW, counted=5, known=4, conflicts=3, dead=2, missing=1).accepted == 15


def test_numbers_of_a_lane_from_a_limit_on_are_in_no_hole() -> None:
    other = Hole("kong-2", 30, 39, NOW, NOW)
    left = below([hole(1, 4), hole(10, 19), hole(20, 20), other], "kong-1", 15)

    assert left == [hole(1, 4), hole(10, 14), other]
