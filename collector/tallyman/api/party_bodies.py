"""Suppliers and what they charge by: the parts that billing profiles and invoices share."""

from typing import Annotated, Self

from pydantic import StringConstraints

from tallyman.api.app_bodies import app_id
from tallyman.api.customer_bodies import AddressBody, ExternalKey, Text
from tallyman.api.wire import NO_NUL, Body, Ulid
from tallyman.domain.billing_profile import App, Supplier

TaxCode = Annotated[str, StringConstraints(min_length=1, max_length=32, pattern=NO_NUL)]


class TaxIdentityBody(Body):
    """A tax id such as a VAT number."""

    code: TaxCode | None = None


class PartyAddressesBody(Body):
    """Where the party is."""

    billing_address: AddressBody


class PartyBody(Body):
    """Who the money is owed to."""

    id: Text | None = None
    key: ExternalKey | None = None
    name: Text | None = None
    tax_id: TaxIdentityBody | None = None
    addresses: PartyAddressesBody | None = None

    def supplier(self) -> Supplier:
        """The supplier that it says."""
        addresses = self.addresses
        return Supplier(
            name=self.name,
            id=self.id,
            key=self.key,
            tax_code=None if self.tax_id is None else self.tax_id.code,
            billing_address=None if addresses is None else addresses.billing_address.address(),
        )

    @classmethod
    def of(cls, supplier: Supplier) -> Self:
        """The supplier on the wire."""
        address = supplier.billing_address
        return cls(
            id=supplier.id,
            key=supplier.key,
            name=supplier.name,
            tax_id=None if supplier.tax_code is None else TaxIdentityBody(code=supplier.tax_code),
            addresses=None
            if address is None
            else PartyAddressesBody(billing_address=AddressBody.of(address)),
        )


class AppReferenceBody(Body):
    """An app, by its id: see `GET /apps`."""

    id: Ulid


class AppsBody(Body):
    """What computes taxes, sends invoices and takes payments."""

    tax: AppReferenceBody
    invoicing: AppReferenceBody
    payment: AppReferenceBody


def apps_of(app: App) -> AppsBody:
    """The app sends the invoices and takes the payments; nothing computes taxes but the sandbox."""
    chosen = AppReferenceBody(id=app_id(app))
    return AppsBody(tax=AppReferenceBody(id=app_id(App.SANDBOX)), invoicing=chosen, payment=chosen)
