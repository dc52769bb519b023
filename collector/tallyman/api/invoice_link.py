"""Links to one invoice for whoever has no key: signed, and good until a time. Pure."""

import base64
import binascii
import hashlib
import hmac
from dataclasses import dataclass
from datetime import datetime

import msgspec

from tallyman.domain.period import EPOCH
from tallyman.errors import Gone, NotFound


@dataclass(frozen=True)
class InvoiceLink:
    """What a link leads to."""

    namespace: str
    invoice_id: str
    expires_at: datetime


def write_link(link: InvoiceLink, secret: str) -> str:
    """The link as a part of a path; cut to whole seconds."""
    seconds = int((link.expires_at - EPOCH).total_seconds())
    content = msgspec.json.encode([link.namespace, link.invoice_id, seconds])
    return f"{_text(content)}.{_text(_signature(content, secret))}"


def read_link(text: str, secret: str, now: datetime) -> tuple[str, str]:
    """The namespace and the id of the invoice.

    Raises:
        NotFound: it is no link of ours.
        Gone: it was, until it expired.
    """
    try:
        content, signature = (_bytes(part) for part in text.split("."))
    except (ValueError, binascii.Error) as err:
        raise NotFound("there is nothing at this path") from err
    if not hmac.compare_digest(signature, _signature(content, secret)):
        raise NotFound("there is nothing at this path")
    namespace, invoice_id, seconds = msgspec.json.decode(content, type=tuple[str, str, int])
    if (now - EPOCH).total_seconds() >= seconds:
        raise Gone("the link has expired: ask for another one")
    return namespace, invoice_id


def _signature(content: bytes, secret: str) -> bytes:
    return hmac.new(secret.encode(), b"invoice\x1f" + content, hashlib.sha256).digest()


def _text(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def _bytes(text: str) -> bytes:
    return base64.urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
