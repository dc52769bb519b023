"""What becomes of a gateway's consumers."""

from datetime import UTC, datetime
from typing import Any

import pytest
from tallyman.domain.consumer_import import Action, Consumer, Step, SubjectValue, plan_import
from tallyman.domain.customer import Customer

NOW = datetime(2026, 11, 1, tzinfo=UTC)


def customer(key: str, *subjects: str, **changed: Any) -> Customer:
    return Customer(
        id="", namespace="default", key=key, name=key, created_at=NOW, updated_at=NOW,
        subject_keys=subjects, **changed,
    )  # fmt: skip


def plan(
    *consumers: Consumer, value: SubjectValue = "username", there: tuple[Customer, ...] = ()
) -> list[Step]:
    return plan_import(consumers, value, there, "default", NOW)


@pytest.mark.parametrize(
    ("consumer", "value", "subjects"),
    [
        pytest.param(Consumer("i", "u", "c"), "username", ("u",), id="username"),
        pytest.param(Consumer("i", "u", "c"), "custom_id", ("c",), id="custom_id"),
        pytest.param(Consumer("i", "u", "c"), "id", ("i",), id="id"),
        pytest.param(Consumer("i", None, "c"), "username", ("c",), id="as the plugin falls back"),
        pytest.param(Consumer("i", "u"), "custom_id", ("u",), id="no custom_id, so its username"),
        pytest.param(
            Consumer("i", "u", credential_ids=("a", "b")), "credential", ("a", "b"), id="each key"
        ),
    ],
)
def test_the_subject_is_what_the_plugin_makes_of_the_consumer(
    consumer: Consumer, value: SubjectValue, subjects: tuple[str, ...]
) -> None:
    assert consumer.subjects(value) == subjects


def test_a_new_consumer_becomes_a_customer_with_its_tags_as_labels() -> None:
    [step] = plan(Consumer("i", "acme", "42", ("team:a", "gold", "kong-made", "a b")))

    labels = {"team": "a", "gold": "true", "custom_id": "42"}
    assert step.action is Action.MAKE
    assert step.customer == customer("acme", "acme", labels=labels)
    assert step.note == "no labels: kong-made, a b"


def test_the_same_again_leaves_everything_as_it_is() -> None:
    consumers = [Consumer("i", "acme", "42", ("gold",)), Consumer("j", "globex")]
    first = plan(*consumers)
    made = tuple(step.customer for step in first if step.customer is not None)

    assert [step.action for step in plan(*consumers, there=made)] == [Action.LEAVE] * 2


def test_what_is_new_is_added_and_what_others_added_stays() -> None:
    there = customer("acme", "other", labels={"mine": "1"})

    [step] = plan(Consumer("i", "acme", tags=("gold",)), there=(there,))

    assert step.action is Action.CHANGE
    assert step.customer == customer("acme", "other", "acme", labels={"mine": "1", "gold": "true"})
    assert step.note == "+ subject acme; + label gold=true"


def test_a_subject_that_another_customer_pays_for_is_left_there() -> None:
    there = customer("acme-corp", "acme-batch")

    [step] = plan(Consumer("i", "acme-batch", tags=("gold",)), there=(there,))

    assert (step.action, step.customer) == (Action.LEAVE, there)
    assert step.note == "acme-batch belongs to acme-corp"


@pytest.mark.parametrize(
    ("consumer", "value", "note"),
    [
        pytest.param(Consumer(), "username", "has no username, custom_id or id", id="nameless"),
        pytest.param(
            Consumer("i", "u"),
            "credential",
            "no credential with an id is known; Kong's Admin API knows them",
            id="no credential",
        ),
        pytest.param(
            Consumer("i", "u" * 257), "username", "the name is longer than 256 characters",
            id="too long",
        ),
    ],
)  # fmt: skip
def test_what_can_be_no_customer_is_refused_with_the_reason(
    consumer: Consumer, value: SubjectValue, note: str
) -> None:
    [step] = plan(consumer, value=value)

    assert (step.action, step.note) == (Action.REFUSE, note)


def test_a_consumer_that_stands_there_twice_is_done_once() -> None:
    assert [step.action for step in plan(Consumer("i", "a"), Consumer("i", "a"))] == [Action.MAKE]


def test_a_consumers_calls_go_by_its_id_where_its_name_is_too_long() -> None:
    assert Consumer("i", "u" * 257, "42").subjects("username") == ("i",)
