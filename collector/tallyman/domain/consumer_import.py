"""What becomes of the gateway's consumers: the customers to make, to change, and to leave. Pure.

Where consumers are read from is `kong_consumers.py`'s, how customers are kept `store/customers.py`'s.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Final, Literal

from tallyman_kong.usage import consumer_subject

from tallyman.domain.customer import Customer
from tallyman.domain.event import LONGEST_TEXT

LONGEST_NAME: Final = 256
MOST_LABELS: Final = 50
CUSTOM_ID: Final = "custom_id"
_LABEL_NAME = re.compile(
    r"(?!kong|konnect|mesh|kic|_)[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?"
)
_LABEL_VALUE = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")

SubjectValue = Literal["username", "custom_id", "id", "credential"]


@dataclass(frozen=True)
class Consumer:
    """A consumer of the gateway, with the ids of its credentials as far as they are known."""

    id: str | None = None
    username: str | None = None
    custom_id: str | None = None
    tags: tuple[str, ...] = ()
    credential_ids: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What people know it by."""
        return self.username or self.custom_id or self.id or ""

    def subjects(self, value: SubjectValue) -> tuple[str, ...]:
        """The subjects that the plugin gives its calls, where it is set to this value."""
        if value == "credential":
            return self.credential_ids
        by_name = {"username": self.username, "custom_id": self.custom_id, "id": self.id}
        subject = consumer_subject(by_name, value)
        return (subject,) if subject else ()


class Action(StrEnum):
    """What is done about a consumer."""

    MAKE = "make"
    CHANGE = "change"
    LEAVE = "leave"
    REFUSE = "refuse"


@dataclass(frozen=True)
class Step:
    """A consumer, and what is done about it; `customer` is as it is to be, None if refused."""

    consumer: Consumer
    subjects: tuple[str, ...]
    action: Action
    customer: Customer | None
    note: str = ""


def plan_import(
    consumers: Iterable[Consumer],
    value: SubjectValue,
    customers: Sequence[Customer],
    namespace: str,
    now: datetime,
) -> list[Step]:
    """One step for each consumer, in their order; the same again leaves everything as it is.

    `customers` are all of the namespace. A consumer whose subjects belong to a customer with another
    key is left: somebody put them there.
    """
    by_key = {customer.key: customer for customer in customers}
    owners = {subject: one.key for one in customers for subject in one.subject_keys}
    steps: list[Step] = []
    for consumer in consumers:
        step = _step(consumer, value, by_key, owners, (namespace, now))
        steps.append(step)
        if step.customer is not None:
            by_key[step.customer.key] = step.customer
            owners |= dict.fromkeys(step.customer.subject_keys, step.customer.key)
    return _without_repeats(steps)


def _step(
    consumer: Consumer,
    value: SubjectValue,
    by_key: Mapping[str, Customer],
    owners: Mapping[str, str],
    made: tuple[str, datetime],
) -> Step:
    subjects = consumer.subjects(value)
    key = consumer.name
    if reason := _refusal(consumer, subjects, value):
        return Step(consumer, subjects, Action.REFUSE, None, reason)
    elsewhere = {
        subject: owners[subject] for subject in subjects if owners.get(subject, key) != key
    }
    mine = tuple(subject for subject in subjects if subject not in elsewhere)
    note = ", ".join(f"{subject} belongs to {owner}" for subject, owner in elsewhere.items())
    if not mine:
        owner = by_key[next(iter(elsewhere.values()))]
        return Step(consumer, subjects, Action.LEAVE, owner, note)
    labels, unfit = _labels(consumer)
    if unfit:
        note = "; ".join(filter(None, [note, f"no labels: {', '.join(unfit)}"]))
    before = by_key.get(key)
    if before is None:
        namespace, now = made
        customer = Customer(
            id="", namespace=namespace, key=key, name=key, created_at=now, updated_at=now,
            subject_keys=mine, labels=labels,
        )  # fmt: skip
        return Step(consumer, subjects, Action.MAKE, customer, note)
    new = tuple(subject for subject in mine if subject not in before.subject_keys)
    after = replace(
        before,
        subject_keys=before.subject_keys + new,
        labels=dict(list((before.labels | labels).items())[:MOST_LABELS]),
    )
    if after == before:
        return Step(consumer, subjects, Action.LEAVE, before, note)
    changes = [f"+ subject {subject}" for subject in new]
    changes += [
        f"+ label {name}={after.labels[name]}"
        for name in after.labels
        if after.labels[name] != before.labels.get(name)
    ]
    return Step(
        consumer, subjects, Action.CHANGE, after, "; ".join([*changes, *filter(None, [note])])
    )


def _refusal(consumer: Consumer, subjects: Sequence[str], value: SubjectValue) -> str:
    if not consumer.name:
        return "has no username, custom_id or id"
    if not subjects:
        return (
            "no credential with an id is known; Kong's Admin API knows them"
            if value == "credential"
            else f"has no {value}"
        )
    if any(len(text) > LONGEST_TEXT or "\x00" in text for text in subjects):
        return f"the subject is longer than {LONGEST_TEXT} characters"
    if len(consumer.name) > LONGEST_NAME or "\x00" in consumer.name:
        return f"the name is longer than {LONGEST_NAME} characters"
    return ""


def _labels(consumer: Consumer) -> tuple[dict[str, str], list[str]]:
    """Tags and the custom_id as labels: `team:a` is team=a, `gold` is gold=true; what fits as none."""
    labels: dict[str, str] = {}
    unfit: list[str] = []
    given = [*consumer.tags, *([f"{CUSTOM_ID}:{consumer.custom_id}"] if consumer.custom_id else [])]
    for tag in given:
        name, _, value = tag.partition(":" if ":" in tag else "=")
        value = value or "true"
        if _LABEL_NAME.fullmatch(name) and _LABEL_VALUE.fullmatch(value):
            labels[name] = value
        else:
            unfit.append(tag)
    return dict(list(labels.items())[:MOST_LABELS]), unfit


def _without_repeats(steps: Sequence[Step]) -> list[Step]:
    """A consumer that stands there twice is shown twice, but done once."""
    seen: set[Consumer] = set()
    kept = []
    for step in steps:
        if step.consumer not in seen:
            kept.append(step)
        seen.add(step.consumer)
    return kept
