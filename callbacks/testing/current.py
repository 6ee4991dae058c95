"""Which app or outbox the running test uses: one at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, TypeVar

_T = TypeVar("_T")

_entered: Final[list[object]] = []


@contextmanager
def only_one(used: object) -> Iterator[None]:
    """Let this be the one in use; raises `RuntimeError` if there is one."""
    if _entered:
        raise RuntimeError(
            f"a {type(_entered[0]).__name__} is in use already: a test has either callbacks_outbox"
            " or callbacks_app (which callbacks_receiver comes with), and one of them"
        )
    _entered.append(used)
    try:
        yield
    finally:
        _entered.remove(used)


def current(kind: type[_T]) -> _T:
    """The one in use; raises `RuntimeError` if there is none of this kind."""
    for used in _entered:
        if isinstance(used, kind):
            return used
    instead = f", not {type(_entered[0]).__name__}" if _entered else ""
    raise RuntimeError(
        f"this needs the fixture callbacks_app or callbacks_receiver{instead}: nothing is sent"
        " without it"
    )
