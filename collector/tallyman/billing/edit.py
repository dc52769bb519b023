"""A draft edited by hand, and let go on from there.

What can be changed, and when, is the domain's (`invoice_edit.py`).
"""

from datetime import datetime

from tallyman.billing.advance import go_on, reopened
from tallyman.billing.books import Books
from tallyman.domain.access import LOCAL
from tallyman.domain.invoice import Invoice
from tallyman.domain.invoice_edit import InvoiceEdit, edited
from tallyman.errors import InvoiceCannotBeEdited


async def edit_draft(
    books: Books,
    before: Invoice,
    edit: InvoiceEdit,
    now: datetime,
    *,
    by: str = LOCAL,
) -> Invoice:
    """Change what a draft says; one that is counted keeps its lines and amounts.

    Raises:
        InvoiceCannotBeEdited: its state does not allow it, or someone else was first.
    """
    [opened] = await reopened(books, [edited(before, edit, now)])
    [after], progress = await go_on(books, [opened], now)
    kept = await books.invoices.replace(
        before.namespace, [(before, after)], progress, by=by, action="edited"
    )
    if not kept:
        raise InvoiceCannotBeEdited(f"invoice {before.id} was changed meanwhile; try again")
    return kept[0]
