"""An invoice as an HTML page: one document that needs nothing but itself, and no script.

It does not decide who may see it: see `api/invoice_pages.py`.
"""

import base64
import hashlib
from importlib.resources import files
from typing import Final

from jinja2 import DictLoader, Environment, StrictUndefined
from markupsafe import Markup

from tallyman.console.invoice_view import InvoiceView

_TEMPLATES: Final = files("tallyman.console") / "templates"
_STYLE: Final = (_TEMPLATES / "invoice.css").read_text(encoding="utf-8")
_PAGES: Final = Environment(
    loader=DictLoader({"invoice": (_TEMPLATES / "invoice.html").read_text(encoding="utf-8")}),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_INVOICE: Final = _PAGES.get_template("invoice")
_STYLE_HASH: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
# Nothing is loaded, run, sent or framed, and no style but this one applies.
CONTENT_SECURITY_POLICY: Final = (
    f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; img-src data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)


def invoice_page(invoice: InvoiceView, pdf_path: str) -> str:
    """The page; `pdf_path` is where the reader finds the same as a PDF."""
    # The style is this package's own, and must be as it was hashed.
    return _INVOICE.render(invoice=invoice, pdf_path=pdf_path, style=Markup(_STYLE))  # noqa: S704
