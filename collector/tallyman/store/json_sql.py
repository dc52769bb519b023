"""SQL expressions that read a JSON value by its path, as text and as an exact number. Pure.

The same rules in Python, for one event, are `domain/event_value.py`.
"""

from collections.abc import Sequence

from tallyman.domain.event_value import LARGEST, LONGEST_NUMBER, NUMBER

SCALE = 18
_DIGITS = 18  # that an integer of 64 bits has at least room for, with its sign


def quote(text: str) -> str:
    """A string literal of ClickHouse, for any text."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'").replace("\0", "\\0")
    return f"'{escaped}'"


def text_at(column: str, steps: Sequence[str | int]) -> str:
    """The text of the value at `steps`: '' if it is absent, null, an array or an object.

    A string is itself, a number or boolean its JSON. JSONExtractRaw prints a number by way of a
    double; events whose numbers that would change are refused when they come in.
    """
    raw = f"JSONExtractRaw({', '.join([column, *map(_step, steps)])})"
    text = (
        f"multiIf(startsWith({raw}, '\"'), JSONExtractString({raw}), "
        f"{raw} = 'null' OR startsWith({raw}, '[') OR startsWith({raw}, '{{'), '', {raw})"
    )
    # an index also finds the n-th member of an object, which JSONPath does not
    arrays = [
        f"JSONType({', '.join([column, *map(_step, steps[:position])])}) = 'Array'"
        for position, step in enumerate(steps)
        if isinstance(step, int)
    ]
    return f"if({' AND '.join(arrays)}, {text}, '')" if arrays else text


def number_in(text: str) -> str:
    """A text as Nullable(Decimal(76, 18)), cut after 18 places; NULL where it is no number."""
    number = (
        f"toDecimal256OrNull(if(length({text}) <= {LONGEST_NUMBER} "
        f"AND match({text}, {quote(NUMBER.pattern)}), {text}, ''), {SCALE})"
    )
    return f"if(abs({number}) < toDecimal256('{LARGEST:f}', {SCALE}), {number}, NULL)"


def number_at(column: str, steps: Sequence[str | int]) -> str:
    """`number_in` of `text_at`, for an integer of a flat object without reading all of the JSON.

    In an object in which nothing is nested or escaped, the field's name in quotes before a colon is
    the field: no text and no other name can hold that.
    """
    number = number_in(text_at(column, steps))
    if len(steps) != 1 or isinstance(steps[0], int):
        return number
    found = f"simpleJSONExtractRaw({column}, {quote(steps[0])})"
    is_plain = f"position({column}, '\\\\') = 0 AND countSubstrings({column}, '{{') = 1"
    integer = f"toInt64OrNull(if({is_plain} AND length({found}) <= {_DIGITS}, {found}, ''))"
    return f"if(isNotNull({integer}), toDecimal256(assumeNotNull({integer}), {SCALE}), {number})"


def _step(step: str | int) -> str:
    return quote(step) if isinstance(step, str) else str(step + 1)
