"""What a customer is called here is what Stripe mails to and prints, also when it is changed later."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

from tallyman.domain.customer import Address, Customer
from tallyman.store.customers import CustomerChange, CustomerStore

from tests.integration.payments.conftest import Till
from tests.rigs.stripe import Fault

UPDATE = "POST customers:id"
BERLIN = Address("DE", city="Berlin", line1="Am Ufer 1", line2="Hof 2", phone_number="+49 30 1")


async def change(till: Till, customer: Customer, **said: Any) -> None:
    till.wait(timedelta(seconds=1))
    change = CustomerChange(**{"name": customer.name, "currency": customer.currency, **said})
    await CustomerStore(till.database).replace(till.namespace, customer.id, change, till.now)


def there(till: Till) -> dict[str, Any]:
    """The one customer at Stripe, as far as it is named."""
    [found] = till.stripe.customers.values()
    return {name: found[name] for name in ("name", "email", "phone", "address") if name in found}


async def test_stripe_is_told_of_a_change_once(till: Till) -> None:
    customer = await till.customer()
    await till.issuing(customer)
    await till.app.work()

    await change(till, customer, primary_email="a@example.com", billing_address=BERLIN)
    await till.app.work()
    first = there(till)
    moved = replace(BERLIN, line2=None, phone_number=None)
    await change(till, customer, name="Acme SE", billing_address=moved)
    await till.app.work()
    await change(till, customer, name="Acme SE", billing_address=moved, labels={"tier": "gold"})
    await till.app.work()

    address = {
        "country": "DE", "postal_code": "", "state": "", "city": "Berlin", "line1": "Am Ufer 1",
        "line2": "Hof 2",
    }  # fmt: skip
    said = {"email": "a@example.com", "phone": "+49 30 1"}
    assert first == {"name": customer.name, **said, "address": address}
    # What is said no more stays there, but of the address, which is one thing.
    assert there(till) == {"name": "Acme SE", **said, "address": {**address, "line2": ""}}
    assert till.stripe.calls.count(UPDATE) == 2


async def test_a_change_that_stripe_did_not_answer_is_told_again(till: Till) -> None:
    customer = await till.customer()
    await till.issuing(customer)
    await till.app.work()
    till.stripe.faults = [Fault(UPDATE, answer=500, times=9)]

    await change(till, customer, name="Acme SE")
    await till.app.work()
    before = there(till)["name"]
    till.stripe.faults = []
    till.wait(timedelta(minutes=5))
    await till.app.work()

    assert (before, there(till)["name"]) == (customer.name, "Acme SE")


async def test_a_change_that_stripe_refuses_is_left(till: Till) -> None:
    customer = await till.customer()
    await till.issuing(customer)
    await till.app.work()
    till.stripe.faults = [Fault(UPDATE, answer=400, times=9)]

    await change(till, customer, name="Acme SE")
    await till.app.work()
    till.wait(timedelta(minutes=5))
    await till.app.work()

    assert till.stripe.calls.count(UPDATE) == 1


async def test_a_customer_that_an_older_invoice_makes_at_stripe_is_told_what_it_is_called_now(
    till: Till,
) -> None:
    customer = await till.customer()
    await till.issuing(customer)
    await change(till, customer, name="Acme SE")

    await till.app.work()
    await till.app.work()

    assert there(till)["name"] == "Acme SE"
    assert till.stripe.calls.count(UPDATE) == 1
