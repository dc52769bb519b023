"""Numbered pages of lists: the conditions as a store takes them, and what is said about a page.

How a page is asked for is `parameters.py`'s.
"""

from typing import Self

from tallyman.api.parameters import ListQuery
from tallyman.api.wire import Answer
from tallyman.store.comparison import Comparison


class PageMeta(Answer):
    """Where in a list a page is."""

    number: int
    size: int
    total: int


class PaginatedMeta(Answer):
    """What is said about a page."""

    page: PageMeta

    @classmethod
    def of(cls, asked: ListQuery, total: int) -> Self:
        """Of the page that was asked for, where there are so many on all pages."""
        return cls(page=PageMeta(number=asked.number, size=asked.size, total=total))


def comparisons_of(asked: ListQuery) -> list[Comparison]:
    """Every condition, as one on a column of the same name."""
    return [
        Comparison(one.field, one.operator, tuple(map(str, one.values))) for one in asked.conditions
    ]
