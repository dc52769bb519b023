"""The lifecycle of an invoice, as a state machine that does nothing but say what comes next.

It does not do what a state is for, such as counting or sending: billing does, and then advances.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Final

from tallyman.errors import InvoiceActionNotAvailable, InvoiceCannotAdvance


class InvoiceState(StrEnum):
    """The API's extended status; its status is what is before the dot."""

    GATHERING = "gathering"
    DRAFT_CREATED = "draft.created"
    DRAFT_WAITING_FOR_COLLECTION = "draft.waiting_for_collection"
    DRAFT_COLLECTING = "draft.collecting"
    DRAFT_UPDATING = "draft.updating"
    DRAFT_VALIDATING = "draft.validating"
    DRAFT_INVALID = "draft.invalid"
    DRAFT_SYNCING = "draft.syncing"
    DRAFT_SYNC_FAILED = "draft.sync_failed"
    DRAFT_MANUAL_APPROVAL_NEEDED = "draft.manual_approval_needed"
    DRAFT_WAITING_AUTO_APPROVAL = "draft.waiting_auto_approval"
    DRAFT_READY_TO_ISSUE = "draft.ready_to_issue"
    ISSUING_LINE_FINALIZATION = "issuing.line_finalization"
    ISSUING_LINE_FINALIZATION_FAILED = "issuing.line_finalization_failed"
    ISSUING_SYNCING = "issuing.syncing"
    ISSUING_SYNC_FAILED = "issuing.sync_failed"
    ISSUING_CHARGE_BOOKING = "issuing.charge_booking"
    ISSUING_CHARGE_BOOKING_FAILED = "issuing.charge_booking_failed"
    ISSUED = "issued"
    PAYMENT_PENDING = "payment_processing.pending"
    PAYMENT_AUTHORIZED = "payment_processing.authorized"
    PAYMENT_FAILED = "payment_processing.failed"
    PAYMENT_ACTION_REQUIRED = "payment_processing.action_required"
    OVERDUE = "overdue"
    PAID = "paid"
    UNCOLLECTIBLE = "uncollectible"
    VOIDED = "voided"
    DELETE_IN_PROGRESS = "delete.in_progress"
    DELETE_SYNCING = "delete.syncing"
    DELETE_FAILED = "delete.failed"
    DELETED = "deleted"

    @property
    def status(self) -> str:
        """The API's status."""
        return self.partition(".")[0]

    @property
    def is_failed(self) -> bool:
        """Whether it waits for someone to mend something."""
        return self is InvoiceState.DRAFT_INVALID or self.endswith("failed")

    @property
    def is_final(self) -> bool:
        """Whether the lines and their amounts can no longer change."""
        return self.status not in ("gathering", "draft")


class Trigger(StrEnum):
    """What moves an invoice. The first five are the API's actions."""

    ADVANCE = "advance"
    APPROVE = "approve"
    RETRY = "retry"
    SNAPSHOT_QUANTITIES = "snapshot_quantities"
    DELETE = "delete"
    UPDATE = "update"
    FAIL = "fail"
    SYNCED = "synced"
    AUTHORIZE = "authorize"
    PAY = "pay"
    REQUIRE_ACTION = "require_action"
    OVERDUE = "overdue"
    UNCOLLECTIBLE = "uncollectible"
    VOID = "void"


ACTIONS: Final = (
    Trigger.ADVANCE,
    Trigger.APPROVE,
    Trigger.RETRY,
    Trigger.SNAPSHOT_QUANTITIES,
    Trigger.DELETE,
)


@dataclass(frozen=True)
class Facts:
    """What the way of an invoice depends on, besides its state.

    `waits_for_app` is whether it is issued, or deleted, only once its app says that it has done so;
    `waits_in_draft` and `waits_to_issue` are as in the workflow.
    """

    now: datetime
    auto_advance: bool = True
    collection_at: datetime | None = None
    draft_until: datetime | None = None
    has_critical_issues: bool = False
    waits_for_app: bool = False
    has_nothing_to_pay: bool = False
    waits_in_draft: bool = False
    waits_to_issue: bool = False


_Guard = Callable[[Facts], bool]


def _always(_: Facts) -> bool:
    return True


def _collected(facts: Facts) -> bool:
    return facts.collection_at is None or facts.collection_at <= facts.now


def _valid(facts: Facts) -> bool:
    return not facts.has_critical_issues


def _by_itself(facts: Facts) -> bool:
    return not facts.waits_for_app


def _free_of_charge(facts: Facts) -> bool:
    return facts.has_nothing_to_pay


def _issued_by_itself(facts: Facts) -> bool:
    return _by_itself(facts) and not facts.waits_to_issue


def _valid_for_review(facts: Facts) -> bool:
    return _valid(facts) and not facts.auto_advance


def _valid_for_itself(facts: Facts) -> bool:
    return _valid(facts) and facts.auto_advance


def _synced_for_review(facts: Facts) -> bool:
    return _valid_for_review(facts) and not facts.waits_in_draft


def _synced_for_itself(facts: Facts) -> bool:
    return _valid_for_itself(facts) and not facts.waits_in_draft


def _reviewed(facts: Facts) -> bool:
    in_time = facts.draft_until is None or facts.draft_until <= facts.now
    return _valid_for_itself(facts) and in_time


S, T = InvoiceState, Trigger
_STEPS: Final[Mapping[InvoiceState, tuple[tuple[_Guard, InvoiceState], ...]]] = {
    S.GATHERING: ((_always, S.DRAFT_CREATED),),
    S.DRAFT_CREATED: ((_always, S.DRAFT_WAITING_FOR_COLLECTION),),
    S.DRAFT_WAITING_FOR_COLLECTION: ((_collected, S.DRAFT_COLLECTING),),
    S.DRAFT_COLLECTING: ((_always, S.DRAFT_VALIDATING),),
    S.DRAFT_UPDATING: ((_always, S.DRAFT_WAITING_FOR_COLLECTION),),
    S.DRAFT_VALIDATING: ((_valid, S.DRAFT_SYNCING),),
    S.DRAFT_SYNCING: (
        (_synced_for_review, S.DRAFT_MANUAL_APPROVAL_NEEDED),
        (_synced_for_itself, S.DRAFT_WAITING_AUTO_APPROVAL),
    ),
    S.DRAFT_WAITING_AUTO_APPROVAL: ((_reviewed, S.DRAFT_READY_TO_ISSUE),),
    S.DRAFT_READY_TO_ISSUE: ((_always, S.ISSUING_LINE_FINALIZATION),),
    S.ISSUING_LINE_FINALIZATION: ((_always, S.ISSUING_SYNCING),),
    S.ISSUING_SYNCING: ((_issued_by_itself, S.ISSUING_CHARGE_BOOKING),),
    S.ISSUING_CHARGE_BOOKING: ((_always, S.ISSUED),),
    S.ISSUED: ((_always, S.PAYMENT_PENDING),),
    S.DELETE_IN_PROGRESS: ((_always, S.DELETE_SYNCING),),
    S.DELETE_SYNCING: ((_by_itself, S.DELETED),),
}
_UNPAID: Final = (
    S.PAYMENT_PENDING,
    S.PAYMENT_AUTHORIZED,
    S.PAYMENT_FAILED,
    S.PAYMENT_ACTION_REQUIRED,
    S.OVERDUE,
)
_DRAFTS: Final = tuple(state for state in S if state.status == "draft")
_ISSUING: Final = tuple(state for state in S if state.status == "issuing")
_MOVES: Final[Mapping[tuple[InvoiceState, Trigger], tuple[_Guard, InvoiceState]]] = {
    **{(state, T.DELETE): (_always, S.DELETE_IN_PROGRESS) for state in (*_DRAFTS, *_ISSUING)},
    **{
        (state, T.UPDATE): (_always, S.DRAFT_UPDATING)
        for state in _DRAFTS
        if state not in (S.DRAFT_UPDATING, S.DRAFT_SYNCING)
    },
    **{
        (state, T.FAIL): (_always, S.DRAFT_INVALID)
        for state in (S.DRAFT_CREATED, S.DRAFT_COLLECTING, S.DRAFT_UPDATING, S.DRAFT_VALIDATING)
    },
    (S.DRAFT_SYNCING, T.FAIL): (_always, S.DRAFT_SYNC_FAILED),
    (S.ISSUING_LINE_FINALIZATION, T.FAIL): (_always, S.ISSUING_LINE_FINALIZATION_FAILED),
    (S.ISSUING_SYNCING, T.FAIL): (_always, S.ISSUING_SYNC_FAILED),
    (S.ISSUING_CHARGE_BOOKING, T.FAIL): (_always, S.ISSUING_CHARGE_BOOKING_FAILED),
    (S.DELETE_IN_PROGRESS, T.FAIL): (_always, S.DELETE_FAILED),
    (S.DELETE_SYNCING, T.FAIL): (_always, S.DELETE_FAILED),
    (S.ISSUING_SYNCING, T.SYNCED): (_always, S.ISSUING_CHARGE_BOOKING),
    (S.DELETE_SYNCING, T.SYNCED): (_always, S.DELETED),
    # What may have failed in the counting is counted again, which keeps an earlier snapshot.
    (S.DRAFT_INVALID, T.RETRY): (_always, S.DRAFT_UPDATING),
    (S.DRAFT_SYNC_FAILED, T.RETRY): (_always, S.DRAFT_VALIDATING),
    (S.ISSUING_LINE_FINALIZATION_FAILED, T.RETRY): (_always, S.ISSUING_LINE_FINALIZATION),
    (S.ISSUING_SYNC_FAILED, T.RETRY): (_always, S.ISSUING_SYNCING),
    (S.ISSUING_CHARGE_BOOKING_FAILED, T.RETRY): (_always, S.ISSUING_CHARGE_BOOKING),
    (S.DELETE_FAILED, T.RETRY): (_always, S.DELETE_IN_PROGRESS),
    (S.DRAFT_WAITING_FOR_COLLECTION, T.SNAPSHOT_QUANTITIES): (_always, S.DRAFT_COLLECTING),
    (S.DRAFT_WAITING_AUTO_APPROVAL, T.APPROVE): (_valid, S.DRAFT_READY_TO_ISSUE),
    (S.DRAFT_MANUAL_APPROVAL_NEEDED, T.APPROVE): (_valid, S.DRAFT_READY_TO_ISSUE),
    **{(state, T.PAY): (_always, S.PAID) for state in (*_UNPAID, S.UNCOLLECTIBLE)},
    **{(state, T.UNCOLLECTIBLE): (_always, S.UNCOLLECTIBLE) for state in _UNPAID},
    **{(state, T.OVERDUE): (_always, S.OVERDUE) for state in _UNPAID if state is not S.OVERDUE},
    **{
        (state, T.FAIL): (_always, S.PAYMENT_FAILED)
        for state in _UNPAID
        if state is not S.PAYMENT_FAILED
    },
    **{
        (state, T.REQUIRE_ACTION): (_always, S.PAYMENT_ACTION_REQUIRED)
        for state in _UNPAID
        if state is not S.PAYMENT_ACTION_REQUIRED
    },
    **{
        (state, T.RETRY): (_always, S.PAYMENT_PENDING)
        for state in (S.PAYMENT_FAILED, S.PAYMENT_ACTION_REQUIRED, S.OVERDUE)
    },
    (S.PAYMENT_PENDING, T.AUTHORIZE): (_always, S.PAYMENT_AUTHORIZED),
    **{(state, T.VOID): (_always, S.VOIDED) for state in (S.ISSUED, *_UNPAID, S.UNCOLLECTIBLE)},
    (S.PAID, T.VOID): (_free_of_charge, S.VOIDED),  # what credit has paid, it can be given back
}


def following(state: InvoiceState, trigger: Trigger, facts: Facts) -> InvoiceState | None:
    """The one state that the trigger leads to; None if it does not apply, or not yet."""
    if (state, trigger) == (S.DRAFT_SYNCING, T.SYNCED):
        trigger, facts = T.ADVANCE, replace(facts, waits_in_draft=False)
    if trigger is Trigger.ADVANCE:
        steps = _STEPS.get(state, ())
        return next((target for guard, target in steps if guard(facts)), None)
    guard, target = _MOVES.get((state, trigger), (None, None))
    return target if guard is not None and guard(facts) else None


def move(state: InvoiceState, trigger: Trigger, facts: Facts) -> InvoiceState:
    """One step.

    Raises:
        InvoiceCannotAdvance: nothing follows by itself, or not yet.
        InvoiceActionNotAvailable: the state takes no such trigger.
    """
    target = following(state, trigger, facts)
    if target is not None:
        return target
    if trigger is Trigger.ADVANCE:
        raise InvoiceCannotAdvance(f"an invoice in {state} does not advance by itself now")
    raise InvoiceActionNotAvailable(f"{trigger} is not available for an invoice in {state}")


def path(state: InvoiceState, trigger: Trigger, facts: Facts) -> Iterator[InvoiceState]:
    """The states that the trigger leads through, if each one's work succeeds, until it must wait."""
    target = following(state, trigger, facts)
    while target is not None:
        yield target
        target = following(target, Trigger.ADVANCE, facts)


def available_actions(state: InvoiceState, facts: Facts) -> dict[Trigger, InvoiceState]:
    """Each action that can be taken now, with the state that it ends in if all goes well."""
    hopeful = replace(facts, has_critical_issues=False)
    ends: dict[Trigger, InvoiceState] = {}
    for action in ACTIONS:
        if following(state, action, facts) is not None:
            *_, ends[action] = path(state, action, hopeful)
    return ends


def is_mutable(state: InvoiceState) -> bool:
    """Whether the invoice can be edited."""
    return (state, Trigger.UPDATE) in _MOVES
