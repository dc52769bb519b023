"""Every error that Tallyman raises on purpose.

TallymanError
├── InvalidInput       a body, parameter or setting that breaks a rule; names the field
│   ├── InvalidEvent   a CloudEvent that cannot be metered; from Kafka it goes to the dead letters
│   ├── InvalidQuery   a question that a meter cannot answer; its code says what is wrong with it
│   ├── InvalidCatalogue  a catalogue's file that cannot be put in force; names lines and keys
│   ├── InvalidPlan    a plan breaks rules, or its version is no draft; names each rule and field
│   ├── StripeRefused  Stripe will not do this, whenever it is asked
│   └── InvoiceActionNotAvailable  an invoice in this state takes no such action
│       ├── InvoiceCannotAdvance  nothing follows by itself from its state, or not yet
│       └── InvoiceCannotBeEdited  it is no draft any more, or is being worked on
├── LedgerError        credit that does not add up; nothing of it is booked
├── RatingError        a price and a quantity that cannot be rated; the invoice stays a draft
├── Unauthenticated    no API key, or one that is not known
├── Forbidden          the API key has no role that reaches this
├── NotFound           no such path, meter, event or key
├── MethodNotAllowed   the path is there, but not for this method
├── Gone               it was there and has been deleted
├── Conflict           the change breaks an invariant, such as a key that is taken
│   ├── SubscriptionNotChangeable  its state, or the date, does not allow the change
│   └── AppNotReady    what this needs, such as a key of Stripe's, is not set up
├── TooManyRequests    the API key has as much under way as it may; send it later
├── TooLarge           a body, batch or value beyond its limit
├── ConfigurationError a setting stops the start
└── Unavailable        Kafka, ClickHouse or the database did not answer; retry later
    └── StripeUnanswered   Stripe did not answer, or not with yes or no: it may have done it
        └── StripeKeySpent     the idempotency key gives an old answer: look, and take another
"""

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class InvalidParameter:
    """One broken rule. `field` is a path such as `[3].data.tokens`; `extra` holds e.g. `maximum`."""

    field: str
    rule: str
    reason: str
    source: str = "body"
    extra: dict[str, Any] = dataclasses.field(default_factory=dict)


class TallymanError(Exception):
    """Base class. `code` is stable and goes on the wire; the message is for people."""

    code = "internal_error"


class InvalidInput(TallymanError):
    """A body, parameter or setting that breaks a rule."""

    code = "invalid_input"

    def __init__(self, detail: str, parameters: Sequence[InvalidParameter] = ()) -> None:
        super().__init__(detail)
        self.parameters = tuple(parameters)


class InvoiceLineCannotBeEdited(InvalidInput):
    """Lines come from subscriptions: none is added, left out or changed by hand."""

    code = "invoice_line_cannot_be_edited"


class InvalidEvent(InvalidInput):
    """A CloudEvent that cannot be metered."""

    code = "invalid_event"


QueryCode = Literal[
    "invalid_query",
    "invalid_window_size",
    "invalid_time_zone",
    "invalid_group_by",
    "invalid_dimension_filter",
    "unsupported_filter_operator",
    "too_many_rows",
]


class InvalidQuery(InvalidInput):
    """A question that a meter cannot answer; its code says what is wrong with it."""

    code: QueryCode = "invalid_query"

    def __init__(self, code: QueryCode, parameter: InvalidParameter) -> None:
        super().__init__(f"{parameter.field} {parameter.reason}", [parameter])
        self.code = code


class InvalidPlan(InvalidInput):
    """A plan breaks rules, or is in no state for this; each parameter's rule is the API's code."""

    code = "invalid_plan"


class InvalidCatalogue(InvalidInput):
    """A catalogue's file that cannot be put in force; names each line and key."""

    code = "invalid_catalogue"

    def __init__(self, parameters: Sequence[InvalidParameter]) -> None:
        """Each parameter's `extra` has `at`, the file and line."""
        said = [
            " ".join(part for part in (f"{one.extra['at']}:", one.field, one.reason) if part)
            for one in parameters
        ]
        super().__init__("\n".join(said), parameters)


class InvoiceActionNotAvailable(InvalidInput):
    """An invoice in this state takes no such action."""

    code = "invoice_action_not_available"


class InvoiceCannotAdvance(InvoiceActionNotAvailable):
    """Nothing follows by itself from the invoice's state, or not yet."""

    code = "invoice_cannot_advance"


class InvoiceCannotBeEdited(InvoiceActionNotAvailable):
    """It is no draft any more, or is being worked on."""

    code = "invoice_cannot_be_edited"


class LedgerError(TallymanError):
    """Credit that does not add up: nothing of it is booked."""

    code = "ledger_error"


class RatingError(TallymanError):
    """A price and a quantity that cannot be rated; `code` is the API's for a line's issue."""

    code = "rating_error"

    def __init__(self, detail: str, code: str | None = None) -> None:
        super().__init__(detail)
        self.code = code or self.code


class Unauthenticated(TallymanError):
    """No API key, or one that is not known."""

    code = "unauthenticated"


class Forbidden(TallymanError):
    """The API key has no role that reaches this."""

    code = "forbidden"


class _Missing(TallymanError):
    """Where a body names it, `parameters` says at which field."""

    def __init__(self, detail: str, parameters: Sequence[InvalidParameter] = ()) -> None:
        super().__init__(detail)
        self.parameters = tuple(parameters)


class NotFound(_Missing):
    """No such path, meter, event or key."""

    code = "not_found"


class MethodNotAllowed(TallymanError):
    """The path is there, but not for this method."""

    code = "method_not_allowed"


class StripeRefused(InvalidInput):
    """Stripe will not do this, whenever it is asked."""

    code = "stripe_refused"

    def __init__(self, detail: str, *, missing: bool = False) -> None:
        """`missing` is whether there is no such thing."""
        super().__init__(detail)
        self.missing = missing


class Gone(_Missing):
    """It was there and has been deleted."""

    code = "gone"


@contextmanager
def named_by(field: str) -> Iterator[None]:
    """Say of what is not there by which field of a body it was named."""
    try:
        yield
    except (NotFound, Gone) as err:
        named = InvalidParameter(field, "missing_reference", str(err))
        raise type(err)(str(err), [named]) from err


class Conflict(TallymanError):
    """The change breaks an invariant, such as a key that is taken; names the fields, if it can.

    A code of the API's own, such as deleting_customer_with_active_subscriptions, is given.
    """

    code = "conflict"

    def __init__(
        self, detail: str, parameters: Sequence[InvalidParameter] = (), code: str | None = None
    ) -> None:
        super().__init__(detail)
        self.parameters = tuple(parameters)
        self.code = code or self.code


class SubscriptionNotChangeable(Conflict):
    """The subscription's state, or the date, does not allow the change."""

    code = "subscription_not_changeable"


class AppNotReady(Conflict):
    """What this needs, such as a key of Stripe's, is not set up."""

    code = "app_not_ready"


class TooManyRequests(TallymanError):
    """The API key has as much under way as it may; send it later."""

    code = "too_many_requests"

    def __init__(self, detail: str, after_seconds: int = 1) -> None:
        super().__init__(detail)
        self.after_seconds = after_seconds


class TooManySubjects(TooManyRequests):
    """The API key brings new subjects faster than it may; send these later."""

    code = "too_many_subjects"


class TooLarge(TallymanError):
    """A body, batch or value beyond its limit."""

    code = "too_large"


class ConfigurationError(TallymanError):
    """A setting stops the start."""

    code = "configuration_error"


class Unavailable(TallymanError):
    """Kafka, ClickHouse or the database did not answer; retry later."""

    code = "unavailable"


class StripeUnanswered(Unavailable):
    """Stripe did not answer, or not with yes or no: it may have done what it was asked.

    `after_seconds` is how long it asks to wait, if it does.
    """

    code = "stripe_unanswered"

    def __init__(
        self, detail: str, after_seconds: float | None = None, *, unauthorized: bool = False
    ) -> None:
        super().__init__(detail)
        self.after_seconds = after_seconds
        self.unauthorized = unauthorized


class StripeKeySpent(StripeUnanswered):
    """The idempotency key gives an old answer, or one of other parameters: look, and take another."""
