"""Splits long iterables into pages."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

_T = TypeVar("_T")


def pages(items: Iterable[_T], size: int) -> Iterator[list[_T]]:
    """Split `items` into lists of `size`, reading one page at a time."""
    rest = iter(items)
    while page := list(islice(rest, size)):
        yield page
