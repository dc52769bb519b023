"""Money, quantities and times as people read them.

It rounds nothing: what is owed is rounded at the invoice line (`domain/invoice_line.py`).
"""

import re
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal, localcontext
from typing import Final

from babel import Locale
from babel.dates import format_datetime
from babel.numbers import format_currency, format_decimal

from tallyman.domain.money import EXACT, minor_units, round_to_currency
from tallyman.domain.period import Period

LOCALE: Final = Locale("en")
MOST_DECIMALS: Final = 18  # as the API writes numbers
_DAY: Final = timedelta(days=1)


def money(amount: Decimal, currency: str) -> str:
    """An amount in whole minor units: `$1,234.50`, `¥1,235`, `KWD 1.234`. ISO 4217's decimals."""
    return _in_currency(amount, currency, minor_units(currency))


def rate(amount: Decimal, currency: str) -> str:
    """A price to its last decimal, and at least in minor units: `$0.000002`, `$2.00`."""
    return _in_currency(amount, currency, MOST_DECIMALS)


def with_code(amount: Decimal, currency: str) -> str:
    """An amount as a terminal shows it: `1,234.50 USD`."""
    return f"{without_code(amount, currency)} {currency}"


def without_code(amount: Decimal, currency: str) -> str:
    """A price or an amount under a heading that says the currency: `138.00`, `0.000002`."""
    with localcontext(EXACT):
        return format_decimal(amount, _pattern("", minor_units(currency), MOST_DECIMALS), LOCALE)


def short_amount(amount: Decimal, currency: str) -> Decimal:
    """An amount to be looked at: in minor units or, where that would be 0, to two digits."""
    rounded = round_to_currency(amount, currency)
    if rounded or not amount:
        return rounded
    return Decimal(f"{amount:.1e}")


def number(value: Decimal) -> str:
    """With a comma for thousands, and no more decimals than it has: `15,000`, `0.015`."""
    with localcontext(EXACT):
        return format_decimal(value, _pattern("", 0, MOST_DECIMALS), LOCALE)


def counted(value: Decimal | int, unit: str) -> str:
    """A number of things: `1 token`, `15,000 tokens`."""
    return f"{number(Decimal(value))} {unit}{'' if value == 1 else 's'}"


def day(moment: datetime) -> str:
    """`1 November 2026`, in UTC."""
    return _written(moment, "d MMMM y")


def instant(moment: datetime) -> str:
    """`1 November 2026, 09:24 UTC`."""
    return _written(moment, "d MMMM y, HH:mm") + " UTC"


def period(span: Period) -> str:
    """`1 – 30 November 2026`: the first and the last day; with times where it is not whole days."""
    from_, to = span.from_.astimezone(UTC), span.to.astimezone(UTC)
    if {from_.time(), to.time()} != {time()} or from_ == to:
        return f"{_written(from_, 'd MMMM y, HH:mm')} – {instant(to)}"
    last = to - _DAY
    if from_ == last:
        return day(from_)
    same_year = from_.year == last.year
    begin = "d" if same_year and from_.month == last.month else "d MMMM" if same_year else None
    return f"{_written(from_, begin or 'd MMMM y')} – {day(last)}"


def territory(code: str) -> str:
    """The name of a country by ISO 3166, or the code where it has none."""
    return str(LOCALE.territories.get(code, code))


def _in_currency(amount: Decimal, currency: str, decimals: int) -> str:
    # Babel's own decimals are CLDR's, which for some currencies are fewer than what is owed.
    pattern = _pattern("¤", minor_units(currency), decimals)
    with localcontext(EXACT):
        written = format_currency(amount, currency, pattern, LOCALE, currency_digits=False)
    # CLDR has a space between letters and digits; Babel does not put it.
    return re.sub(r"(?<=[A-Z])(?=\d)", "\N{NO-BREAK SPACE}", written)


def _pattern(sign: str, least: int, most: int) -> str:
    """Of so many decimals, in the notation of CLDR."""
    decimals = "0" * least + "#" * (most - least)
    return f"{sign}#,##0.{decimals}" if decimals else f"{sign}#,##0"


def _written(moment: datetime, pattern: str) -> str:
    return str(format_datetime(moment.astimezone(UTC), pattern, locale=LOCALE))
