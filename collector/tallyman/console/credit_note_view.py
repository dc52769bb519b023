"""A credit note as people read it: the texts of an invoice of what is taken back.

How it is placed is the invoice's: see `invoice_page.py` and `invoice_pdf.py`.
"""

from dataclasses import replace

from tallyman.console import figures
from tallyman.console.invoice_view import InvoiceView, view_of
from tallyman.domain.credit_note import CreditNote, as_invoice
from tallyman.domain.invoice import Invoice


def note_view(note: CreditNote, invoice: Invoice) -> InvoiceView:
    """The texts of a credit note of the invoice."""
    numbers = {line.invoice_line_id: note.invoice_number for line in note.lines}
    shown = view_of(as_invoice(note, invoice), numbers)
    voided = note.voided_at is not None
    return replace(
        shown,
        title=f"Credit note {note.number}",
        status="Void" if voided else "Issued",
        tone="muted" if voided else "good",
        notice="This credit note is void: nothing is taken back." if voided else _notice(note),
        footnotes=(*shown.footnotes[:-1], f"Credit note id {note.id}"),
    )


def _notice(note: CreditNote) -> str:
    amount = figures.money(note.total, note.currency)
    if note.was_paid:
        return f"{amount} of invoice {note.invoice_number}, which was paid, is taken back."
    return f"Invoice {note.invoice_number} is owed less by {amount}."
