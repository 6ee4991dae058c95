"""Which app or outbox the running test uses: one at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final, TypeVar

from callbacks import runtime as runtimes
from callbacks.delivery.dns import Lookups
from callbacks.runtime import Runtime
from callbacks.testing.environ import Environ

_T = TypeVar("_T")

_entered: Final[list[object]] = []


def _public(host: str, _port: int) -> Sequence[str]:
    return ["127.0.0.1" if host == "localhost" else "8.8.8.8"]


#: For `check_url` in a test: names are not looked up, and all are public but that of this machine.
NAMES: Final = Lookups(_public)


@contextmanager
def in_use(
    used: object,
    build: Callable[[], Runtime],
    environ: Environ,
    redis_url: str,
    settings: Mapping[str, object],
) -> Iterator[str]:
    """Let this be the one in use, with parts and settings of its own; yields the secret.

    Raises `RuntimeError` if there is one, and `SettingsError` for an unknown setting.
    """
    with _only_one(used):
        try:
            secret = environ.clean(redis_url)
            environ.configure(**settings)
            with runtimes.replaced(build):
                yield secret
        finally:
            environ.restore()


@contextmanager
def _only_one(used: object) -> Iterator[None]:
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
