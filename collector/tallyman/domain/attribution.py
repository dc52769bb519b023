"""Whose usage an event is: a customer's, or nobody's and why.

It does not know how claims are kept: see `store/customer_subjects.py`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from tallyman.domain.customer import SubjectSpan

ANONYMOUS: Final = "anonymous"  # the subject that the plugin gives a call without a consumer

Owner = tuple[str, SubjectSpan]
Served = tuple[datetime, datetime | None]  # from the one up to the other


class NobodysReason(StrEnum):
    """Why usage belongs to nobody yet."""

    ANONYMOUS = "anonymous"
    NO_CUSTOMER = "no_customer"
    RELEASED = "released"


@dataclass(frozen=True)
class Nobody:
    """Usage that counts for no customer until one has the subject."""

    reason: NobodysReason
    message: str


def owner_of(subject: str, moment: datetime, owners: Iterable[Owner]) -> str | Nobody:
    """The id of the customer whose usage it is, or why it is nobody's.

    `owners` are those that the subject has and had.
    """
    owners = tuple(owners)
    for customer_id, span in owners:
        if span.holds(moment):
            return customer_id
    return nobody(subject, owners)


def nobody(subject: str, owners: Sequence[Owner]) -> Nobody:
    """Why usage of the subject is nobody's since the last of these owners gave it up."""
    freed = free_since(owners)
    if freed is not None:
        return Nobody(
            NobodysReason.RELEASED,
            f"the subject {subject} has belonged to no customer since {freed:%Y-%m-%d %H:%M:%S} UTC",
        )
    if subject == ANONYMOUS:
        return Nobody(NobodysReason.ANONYMOUS, "the call had no consumer")
    return Nobody(
        NobodysReason.NO_CUSTOMER, f"no customer has the subject {subject} in its subject_keys"
    )


@dataclass(frozen=True)
class NotBilled:
    """Usage of a customer that is on no invoice: `code` is before_subscription or no_subscription."""

    code: str
    message: str


def not_billed(moment: datetime, served: Sequence[Served]) -> NotBilled | None:
    """Why usage at the moment is on no invoice of a customer who is served at these times."""
    if any(begin <= moment and (end is None or moment < end) for begin, end in served):
        return None
    later = min((begin for begin, _ in served if moment < begin), default=None)
    if later is None:
        return NotBilled("no_subscription", "the customer has no subscription at the event's time")
    return NotBilled(
        "before_subscription",
        f"the customer's subscription begins after the event's time, at {later:%Y-%m-%d %H:%M:%S}."
        f"{later.microsecond // 1000:03} UTC",
    )


def free_since(owners: Iterable[Owner]) -> datetime | None:
    """When the last owner gave the subject up; None where there never was one."""
    return max((span.to for _, span in owners if span.to is not None), default=None)
