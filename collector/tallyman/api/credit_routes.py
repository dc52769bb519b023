"""The part of the route table that is about credit.

What the handlers do is `credits.py`'s.
"""

from typing import Final

from tallyman.api import credit_top_ups, credits
from tallyman.api.credit_answers import (
    CreditAdjustmentAnswer,
    CreditBalancesAnswer,
    CreditGrantAnswer,
    CreditGrantPage,
    CreditTransactionPage,
)
from tallyman.api.credit_bodies import (
    CreateCreditAdjustmentRequest,
    CreateCreditGrantRequest,
    CreditSettlementRequest,
    VoidCreditGrantRequest,
)
from tallyman.api.credit_top_up_bodies import CreditTopUpAnswer, PutCreditTopUpRequest
from tallyman.api.route import JSON, Answered, Route
from tallyman.domain.access import Scope

GRANT: Final = {JSON: CreditGrantAnswer}
OF: Final = "/customers/{customerId}/credits"
TOP_UP: Final = "/api/v1/customers/{customerId}/credits/top-ups/{currency}"
TOPPED_UP: Final = {JSON: CreditTopUpAnswer}

ROUTES: Final = (
    Route(
        "POST", f"{OF}/grants", credits.create, Scope.BILLING,
        "create-credit-grant", "Grant credit",
        Answered(201, "The grant.", GRANT),
        "With a `key` that another grant of the customer has, none is made.",
        body={JSON: CreateCreditGrantRequest}, problems=(404, 409, 410, 413),
    ),
    Route(
        "GET", f"{OF}/grants", credits.list_, Scope.READ,
        "list-credit-grants", "List a customer's credit grants",
        Answered(200, "A page of grants.", {JSON: CreditGrantPage}),
        parameters=credits.LIST, problems=(404, 410),
    ),
    Route(
        "GET", f"{OF}/grants/{{creditGrantId}}", credits.get, Scope.READ,
        "get-credit-grant", "Read a credit grant",
        Answered(200, "The grant.", GRANT), problems=(404, 410),
    ),
    Route(
        "POST", f"{OF}/grants/{{creditGrantId}}/void", credits.void, Scope.BILLING,
        "void-credit-grant", "Void a credit grant",
        Answered(200, "The grant.", GRANT),
        "What is left of it cannot be used any more; what was used stays used.",
        body={JSON: VoidCreditGrantRequest}, body_required=False, problems=(404, 409, 410, 413),
    ),
    Route(
        "POST", f"{OF}/grants/{{creditGrantId}}/settlement/external", credits.settle, Scope.BILLING,
        "update-credit-grant-external-settlement", "Say how far a grant's payment is",
        Answered(200, "The grant.", GRANT),
        "Of a grant with external funding. The credit can be used meanwhile.",
        body={JSON: CreditSettlementRequest}, problems=(404, 409, 410, 413),
    ),
    Route(
        "GET", f"{OF}/balance", credits.balance, Scope.READ,
        "get-customer-credit-balance", "Read what credit a customer has left",
        Answered(200, "The balances.", {JSON: CreditBalancesAnswer}),
        "`settled` is after the issued invoices, `live` after drafts and what is not billed yet "
        "too, `pending` is granted and not yet in effect.",
        parameters=credits.BALANCE, problems=(404, 410),
    ),
    Route(
        "GET", f"{OF}/transactions", credits.list_transactions, Scope.READ,
        "list-credit-transactions", "List what became of a customer's credit",
        Answered(200, "A page of transactions, the newest first.", {JSON: CreditTransactionPage}),
        parameters=credits.TRANSACTIONS, problems=(404, 410),
    ),
    Route(
        "POST", f"{OF}/adjustments", credits.adjust, Scope.BILLING,
        "create-credit-adjustment", "Give or take credit",
        Answered(201, "The adjustment.", {JSON: CreditAdjustmentAnswer}),
        "Less than zero takes from the grants in the order that they are used in, and no more than "
        "there is.",
        body={JSON: CreateCreditAdjustmentRequest}, problems=(404, 409, 410, 413),
    ),
    Route(
        "GET", TOP_UP, credit_top_ups.get, Scope.READ,
        "get-credit-top-up", "Read how a customer's credit is topped up",
        Answered(200, "The setting.", TOPPED_UP), problems=(404, 410), openmeter=False,
    ),
    Route(
        "PUT", TOP_UP, credit_top_ups.put, Scope.BILLING,
        "put-credit-top-up", "Have a customer's credit topped up through Stripe",
        Answered(200, "The setting.", TOPPED_UP),
        "Below the threshold a grant is bought, which takes effect when it is paid.",
        body={JSON: PutCreditTopUpRequest}, problems=(404, 409, 410, 413), openmeter=False,
    ),
    Route(
        "DELETE", TOP_UP, credit_top_ups.delete, Scope.BILLING,
        "delete-credit-top-up", "Have a customer's credit topped up no more",
        Answered(204, "What is being paid still is."), problems=(404, 410), openmeter=False,
    ),
)  # fmt: skip
