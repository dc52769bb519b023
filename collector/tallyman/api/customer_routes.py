"""The part of the route table that is about customers.

What the handlers do is `customers.py`'s.
"""

from typing import Final

from tallyman.api import customer_billing, customers
from tallyman.api.customer_billing_bodies import (
    CustomerBillingAnswer,
    UpsertCustomerBillingRequest,
)
from tallyman.api.customer_bodies import (
    CreateCustomerRequest,
    CustomerAnswer,
    CustomerPage,
    UpsertCustomerRequest,
)
from tallyman.api.route import JSON, Answered, Route
from tallyman.domain.access import Scope

CUSTOMER: Final = {JSON: CustomerAnswer}
BILLING: Final = {JSON: CustomerBillingAnswer}

ROUTES: Final = (
    Route(
        "POST", "/customers", customers.create, Scope.BILLING,
        "create-customer", "Make a customer",
        Answered(201, "The customer.", CUSTOMER),
        "Usage of the subjects counts as the customer's, also what is stored already. A subject "
        "belongs to one customer.",
        body={JSON: CreateCustomerRequest}, problems=(409, 413),
    ),
    Route(
        "GET", "/customers", customers.list_, Scope.READ,
        "list-customers", "List customers",
        Answered(200, "A page of customers.", {JSON: CustomerPage}),
        parameters=customers.LIST,
    ),
    Route(
        "GET", "/customers/{customerId}", customers.get, Scope.READ,
        "get-customer", "Read a customer",
        Answered(200, "The customer.", CUSTOMER), problems=(404, 410),
    ),
    Route(
        "PUT", "/customers/{customerId}", customers.upsert, Scope.BILLING,
        "upsert-customer", "Put a customer anew",
        Answered(200, "The customer.", CUSTOMER),
        "What is absent is no more; the key stays.",
        body={JSON: UpsertCustomerRequest}, problems=(404, 409, 410, 413),
    ),
    Route(
        "DELETE", "/customers/{customerId}", customers.delete, Scope.BILLING,
        "delete-customer", "Delete a customer",
        Answered(204, "It is deleted; its key and subjects are free, its invoices stay."),
        "One with a subscription that has not ended cannot be deleted. What its subjects used "
        "until now stays its own.",
        problems=(404, 409, 410),
    ),
    Route(
        "GET", "/customers/{customerId}/billing", customer_billing.get, Scope.READ,
        "get-customer-billing", "Read how a customer is billed",
        Answered(200, "Its billing profile.", BILLING), problems=(404, 410),
    ),
    Route(
        "PUT", "/customers/{customerId}/billing", customer_billing.update, Scope.BILLING,
        "update-customer-billing", "Give a customer a billing profile",
        Answered(200, "Its billing profile.", BILLING),
        "From its next invoice on; without one it has the default profile again, and without data "
        "of Stripe's its next invoice there makes a new customer.",
        body={JSON: UpsertCustomerBillingRequest}, problems=(404, 409, 410, 413),
    ),
)  # fmt: skip
