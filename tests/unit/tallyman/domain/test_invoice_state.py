"""The lifecycle: what follows what, what can be done where, and that nothing is a dead end."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from tallyman.domain.invoice_state import (
    ACTIONS,
    Facts,
    InvoiceState,
    Trigger,
    available_actions,
    following,
    is_mutable,
    move,
    path,
)
from tallyman.errors import InvoiceActionNotAvailable, InvoiceCannotAdvance

S, T = InvoiceState, Trigger
NOW = datetime(2026, 11, 21, 9, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)
READY = Facts(NOW)
COLLECTING = Facts(NOW, collection_at=LATER)
REVIEWED_BY_HAND = Facts(NOW, auto_advance=False)
IN_REVIEW = Facts(NOW, draft_until=LATER)
WRONG = Facts(NOW, has_critical_issues=True)


def test_an_invoice_goes_from_gathering_to_payment_by_itself() -> None:
    assert list(path(S.GATHERING, T.ADVANCE, READY)) == [
        S.DRAFT_CREATED,
        S.DRAFT_WAITING_FOR_COLLECTION,
        S.DRAFT_COLLECTING,
        S.DRAFT_VALIDATING,
        S.DRAFT_SYNCING,
        S.DRAFT_WAITING_AUTO_APPROVAL,
        S.DRAFT_READY_TO_ISSUE,
        S.ISSUING_LINE_FINALIZATION,
        S.ISSUING_SYNCING,
        S.ISSUING_CHARGE_BOOKING,
        S.ISSUED,
        S.PAYMENT_PENDING,
    ]


@pytest.mark.parametrize(
    ("facts", "waits_in"),
    [
        pytest.param(COLLECTING, S.DRAFT_WAITING_FOR_COLLECTION, id="late events are waited for"),
        pytest.param(IN_REVIEW, S.DRAFT_WAITING_AUTO_APPROVAL, id="the draft period is not over"),
        pytest.param(REVIEWED_BY_HAND, S.DRAFT_MANUAL_APPROVAL_NEEDED, id="someone must approve"),
        pytest.param(WRONG, S.DRAFT_VALIDATING, id="something is wrong with it"),
    ],
)
def test_an_invoice_waits(facts: Facts, waits_in: InvoiceState) -> None:
    *_, last = path(S.GATHERING, T.ADVANCE, facts)

    assert last is waits_in


def test_an_invoice_waits_for_its_app_to_have_it_and_to_let_it_go() -> None:
    waits = Facts(NOW, waits_for_app=True)

    *_, issuing = path(S.GATHERING, T.ADVANCE, waits)
    *_, deleting = path(S.DRAFT_INVALID, T.DELETE, waits)

    assert (issuing, deleting) == (S.ISSUING_SYNCING, S.DELETE_SYNCING)
    assert list(path(issuing, T.SYNCED, waits))[-1] is S.PAYMENT_PENDING
    assert list(path(deleting, T.SYNCED, waits)) == [S.DELETED]


@pytest.mark.parametrize(
    ("facts", "waits_in"),
    [
        pytest.param(READY, [S.DRAFT_SYNCING, S.ISSUING_SYNCING], id="by itself"),
        pytest.param(
            REVIEWED_BY_HAND, [S.DRAFT_SYNCING, S.DRAFT_MANUAL_APPROVAL_NEEDED], id="by hand"
        ),
    ],
)
def test_an_invoice_waits_in_draft_and_to_be_issued_until_it_is_outside(
    facts: Facts, waits_in: list[InvoiceState]
) -> None:
    waits = replace(facts, waits_in_draft=True, waits_to_issue=True)

    *_, draft = path(S.GATHERING, T.ADVANCE, waits)
    *_, then = path(draft, T.SYNCED, waits)

    assert [draft, then] == waits_in
    assert list(path(S.ISSUING_SYNCING, T.SYNCED, waits))[-1] is S.PAYMENT_PENDING
    assert list(path(draft, T.DELETE, waits))[-1] is S.DELETED


def test_an_invoice_moves_on_the_very_moment_the_wait_is_over() -> None:
    for state in (S.DRAFT_WAITING_FOR_COLLECTION, S.DRAFT_WAITING_AUTO_APPROVAL):
        before, then = (
            following(state, T.ADVANCE, Facts(now, collection_at=LATER, draft_until=LATER))
            for now in (LATER - timedelta(microseconds=1), LATER)
        )
        assert (before, then is None) == (None, False)


@pytest.mark.parametrize(
    ("state", "facts", "actions"),
    [
        pytest.param(
            S.DRAFT_WAITING_FOR_COLLECTION,
            COLLECTING,
            {T.SNAPSHOT_QUANTITIES: S.PAYMENT_PENDING, T.DELETE: S.DELETED},
            id="collecting: count now, or delete",
        ),
        pytest.param(
            S.DRAFT_MANUAL_APPROVAL_NEEDED,
            REVIEWED_BY_HAND,
            {T.APPROVE: S.PAYMENT_PENDING, T.DELETE: S.DELETED},
            id="in review: approve, or delete",
        ),
        pytest.param(
            S.DRAFT_WAITING_AUTO_APPROVAL,
            IN_REVIEW,
            {T.APPROVE: S.PAYMENT_PENDING, T.DELETE: S.DELETED},
            id="approving does not wait for the draft period",
        ),
        pytest.param(
            S.DRAFT_WAITING_AUTO_APPROVAL,
            WRONG,
            {T.DELETE: S.DELETED},
            id="what is wrong is not issued",
        ),
        pytest.param(
            S.DRAFT_INVALID,
            WRONG,
            {T.RETRY: S.PAYMENT_PENDING, T.DELETE: S.DELETED},
            id="invalid: try again, and it may go all the way",
        ),
        pytest.param(
            S.ISSUING_SYNC_FAILED,
            READY,
            {T.RETRY: S.PAYMENT_PENDING, T.DELETE: S.DELETED},
            id="not sent: try again",
        ),
        pytest.param(S.ISSUED, READY, {T.ADVANCE: S.PAYMENT_PENDING}, id="issued is not deleted"),
        pytest.param(S.PAYMENT_FAILED, READY, {T.RETRY: S.PAYMENT_PENDING}, id="pay again"),
        pytest.param(S.OVERDUE, READY, {T.RETRY: S.PAYMENT_PENDING}, id="pay late"),
        pytest.param(S.PAID, READY, {}, id="paid is the end"),
        pytest.param(S.VOIDED, READY, {}, id="voided is the end"),
        pytest.param(S.DELETE_FAILED, READY, {T.RETRY: S.DELETED}, id="delete again"),
    ],
)
def test_available_actions(
    state: InvoiceState, facts: Facts, actions: dict[Trigger, InvoiceState]
) -> None:
    assert available_actions(state, facts) == actions


@pytest.mark.parametrize("state", S)
def test_what_is_not_available_is_refused(state: InvoiceState) -> None:
    available = available_actions(state, WRONG)

    for action in set(ACTIONS) - set(available):
        error = InvoiceCannotAdvance if action is T.ADVANCE else InvoiceActionNotAvailable
        with pytest.raises(error):
            move(state, action, WRONG)


def test_every_state_is_reached_and_every_one_but_the_last_is_left() -> None:
    everything = (READY, REVIEWED_BY_HAND)
    left = {
        state: {following(state, trigger, facts) for trigger in T for facts in everything} - {None}
        for state in S
    }

    assert {state for state, targets in left.items() if not targets} == {
        S.PAID,
        S.VOIDED,
        S.DELETED,
    }
    assert set().union(*left.values()) == set(S) - {S.GATHERING}


def test_amounts_change_in_drafts_only() -> None:
    mutable = {state for state in S if is_mutable(state)}

    assert all(state.status == "draft" for state in mutable)
    assert all(
        state.is_final for state in set(S) - mutable - {S.GATHERING} if state.status != "draft"
    )


def test_failed_states_are_told() -> None:
    assert {state for state in S if state.is_failed} == {
        S.DRAFT_INVALID,
        S.DRAFT_SYNC_FAILED,
        S.ISSUING_LINE_FINALIZATION_FAILED,
        S.ISSUING_SYNC_FAILED,
        S.ISSUING_CHARGE_BOOKING_FAILED,
        S.PAYMENT_FAILED,
        S.DELETE_FAILED,
    }


def test_an_invoice_that_was_written_off_may_still_be_paid() -> None:
    assert move(S.UNCOLLECTIBLE, T.PAY, READY) is S.PAID
