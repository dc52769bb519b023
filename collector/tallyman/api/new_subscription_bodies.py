"""What is asked for by the subscription routes, as OpenMeter's v3 API has it.

What is answered is `subscription_bodies.py`'s.
"""

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import PydanticCustomError

from tallyman.api.customer_bodies import ExternalKey
from tallyman.api.wire import (
    Body,
    Labels,
    ResourceKey,
    Time,
    Ulid,
    read_time,
)
from tallyman.domain.event import EARLIEST, LATEST
from tallyman.domain.plan import SettlementMode
from tallyman.domain.subscription_change import EditTiming, Timing
from tallyman.store.new_subscription import NewSubscription, PlanReference

LARGEST_VERSION = 2**31 - 1


def _check_time(moment: datetime) -> datetime:
    if not EARLIEST <= moment < LATEST:
        raise PydanticCustomError("time", "must be from 1970 to 2199", {"rule": "invalid"})
    return moment


Moment = Annotated[Time, AfterValidator(_check_time)]


def _read_timing(given: Any) -> EditTiming | datetime:
    if given in tuple(EditTiming):
        return EditTiming(given)
    try:
        return _check_time(read_time(given))
    except (TypeError, ValueError) as err:
        raise PydanticCustomError(
            "timing",
            "must be immediate, next_billing_cycle or an RFC 3339 time from 1970 to 2199",
            {"rule": "invalid"},
        ) from err


TimingBody = Annotated[
    EditTiming | datetime,
    BeforeValidator(_read_timing),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "enum": list(EditTiming)},
                {"type": "string", "format": "date-time"},
            ]
        }
    ),
]


class CustomerReferenceBody(Body):
    """A customer, by its id or its key."""

    model_config = ConfigDict(
        json_schema_extra={"oneOf": [{"required": ["id"]}, {"required": ["key"]}]}
    )

    id: Ulid | None = None
    key: ExternalKey | None = None

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if (self.id is None) is (self.key is None):
            raise PydanticCustomError(
                "reference", "must have id or key, and not both", {"rule": "required"}
            )
        return self


class PlanReferenceBody(Body):
    """A version of a plan by its id, or by key and number; without a number the one in force."""

    model_config = ConfigDict(
        json_schema_extra={"anyOf": [{"required": ["id"]}, {"required": ["key"]}]}
    )

    id: Ulid | None = None
    key: ResourceKey | None = None
    version: Annotated[int, Field(ge=1, le=LARGEST_VERSION)] | None = None

    @model_validator(mode="after")
    def _is_there(self) -> Self:
        if self.id is None and self.key is None:
            raise PydanticCustomError("reference", "must have id or key", {"rule": "required"})
        return self


class _NewSubscription(Body):
    customer: CustomerReferenceBody
    plan: PlanReferenceBody
    billing_anchor: Moment | None = None
    settlement_mode: SettlementMode | None = None
    cost_basis_mode: Literal["dynamic"] | None = None
    labels: Labels | None = None

    def asked(self, active_from: datetime | None = None) -> NewSubscription:
        """What the store is asked for."""
        return NewSubscription(
            customer=self.customer.id or self.customer.key or "",
            plan=PlanReference(self.plan.id, self.plan.key, self.plan.version),
            active_from=active_from,
            billing_anchor=self.billing_anchor,
            settlement_mode=self.settlement_mode,
            labels=self.labels,
            customer_field="customer.key" if self.customer.id is None else "customer.id",
        )


class CreateSubscriptionRequest(_NewSubscription):
    """A customer on a plan, from now on, unless `active_from` says another time."""

    active_from: Annotated[
        Moment | None, Field(description="Tallyman's own: when it begins, also in the past.")
    ] = None


class ChangeSubscriptionRequest(_NewSubscription):
    """Another plan for the same customer, and from when on."""

    timing: TimingBody


class CancelSubscriptionRequest(Body):
    """When it ends."""

    timing: TimingBody = EditTiming.IMMEDIATE

    def asked(self) -> Timing:
        """What the store is asked for."""
        return self.timing
