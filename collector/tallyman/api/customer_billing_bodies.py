"""The bodies of `/customers/{id}/billing`, as OpenMeter's v3 API has them."""

from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from tallyman.api.wire import Answer, Body, Ulid


def _no_app(given: Any) -> Any:
    if given is not None:
        raise PydanticCustomError(
            "app", "must be null: there is no such app", {"rule": "missing_reference"}
        )
    return given


NoApp = Annotated[None, BeforeValidator(_no_app), WithJsonSchema({"type": "null"})]


class ProfileReferenceBody(Body):
    """A billing profile, by its id."""

    id: Ulid


class AppDataBody(Body):
    """What other apps know of the customer; the sandbox knows nothing, and there is no other."""

    stripe: NoApp = None
    external_invoicing: NoApp = None


class UpsertCustomerBillingRequest(Body):
    """How the customer is billed; without a profile, by the default one."""

    billing_profile: ProfileReferenceBody | None = None
    app_data: AppDataBody | None = None


class AppDataAnswer(Answer):
    """What other apps know of the customer: nothing."""


class CustomerBillingAnswer(Answer):
    """The profile that the customer's next invoices are made by."""

    billing_profile: ProfileReferenceBody
    app_data: AppDataAnswer
