"""Writes a usage statement: a customer's month, event by event, as it was known at a watermark.

How its lines are chained is the domain's (`domain/statement.py`). It bills nothing.
"""

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Final

from tallyman.billing.books import Books
from tallyman.domain.counted_event import Count, CountedEvent
from tallyman.domain.counting import Metered, subject_periods
from tallyman.domain.period import Period
from tallyman.domain.statement import Chain
from tallyman.errors import InvalidInput

METER: Final = "kong_konnect_llm_tokens"
EVENTS_AT_ONCE: Final = 5_000


async def statement(
    books: Books,
    namespace: str,
    customer: str,
    month: Period,
    stored_until: datetime | None = None,
) -> AsyncIterator[str]:
    """The lines for the customer, by id or key.

    Written again with the same `stored_until`, and while the customer's subjects are the same, they
    are the same to the byte.

    Raises:
        NotFound: there is no such customer.
        InvalidInput: what is stored until then is not known yet.
    """
    found = await books.customers.get(namespace, customer)
    newest = await books.quantities.watermark()
    if stored_until is not None and stored_until > newest:
        raise InvalidInput(
            f"{stored_until.isoformat()} is not over yet: it would not stay the same"
        )
    watermark = stored_until or newest
    spans = (await books.customers.spans([found.id])).get(found.id, ())
    metered = Metered(await books.meters.get(namespace, METER))
    count = Count(metered, tuple(subject_periods(spans, month)), watermark)
    chain = Chain()
    yield chain.begin(
        {
            "customer": found.key,
            "customer_id": found.id,
            "from": month.from_.isoformat(),
            "to": month.to.isoformat(),
            "stored_until": watermark.isoformat(),
            "subjects": [
                {"subject": subject, "from": part.from_.isoformat(), "to": part.to.isoformat()}
                for subject, part in count.parts
            ],
        }
    )
    after: str | None = None
    while count.parts:
        page = await books.counted.page(count, None, EVENTS_AT_ONCE, after)
        for event in page.events:
            yield chain.add(_event(event))
        after = page.next
        if after is None:
            break
    yield chain.end()


def _event(event: CountedEvent) -> dict[str, str]:
    return {
        "time": event.time.isoformat(),
        "source": event.source,
        "id": event.id,
        "subject": event.subject,
        "model": event.model,
        "type": event.token_type,
        "quantity": event.value,
        "counted_by": event.usage_source,
    }
