"""The caller's own request headers: which are accepted, and which are reserved."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Iterable, Mapping
from typing import Final

from callbacks.model import InvalidCallback

MAX_HEADERS: Final = 50
MAX_HEADER_BYTES: Final = 8_192  # of all names and values

# RFC 9110, sections 5.1 and 5.5: a token, and latin-1 without control characters except inner tabs.
_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE: Final = re.compile(r"(?:[!-~\xa0-\xff](?:[\t -~\xa0-\xff]*[!-~\xa0-\xff])?)?")
# Set by callbacks itself, or specific to a connection (RFC 9110, section 7.6.1).
_OURS: Final = re.compile(
    r"(?:webhook|content|proxy)-.*|host|user-agent"
    r"|transfer-encoding|connection|keep-alive|te|trailer|upgrade|expect"
)


def frozen_headers(
    headers: Mapping[str, str] | Iterable[tuple[str, str]] | None,
) -> tuple[tuple[str, str], ...]:
    """Return the headers as pairs, in order.

    Raises InvalidCallback for the field `headers`, without their values, which may be credentials.
    """
    pairs = _pairs(headers)
    if len(pairs) > MAX_HEADERS:
        raise _invalid(f"are {len(pairs)}; expected at most {MAX_HEADERS}")
    seen: set[str] = set()
    for name, value in pairs:
        _check(name, value)
        if _folded(name) in seen:
            raise _invalid(f"have {name!r} twice; expected each once, ignoring case")
        seen.add(_folded(name))
    size = sum(len(name) + len(value) for name, value in pairs)
    if size > MAX_HEADER_BYTES:
        raise _invalid(f"have {size:,} bytes; expected at most {MAX_HEADER_BYTES:,}")
    return pairs


def _pairs(
    headers: Mapping[str, str] | Iterable[tuple[str, str]] | None,
) -> tuple[tuple[str, str], ...]:
    given = headers.items() if isinstance(headers, Mapping) else headers or ()
    try:
        return tuple((name, value) for name, value in given)
    except (TypeError, ValueError):
        raise _invalid("cannot be read; expected a mapping of names to values") from None


def _check(name: object, value: object) -> None:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise _invalid(f"have the name {reprlib.repr(name)}; expected letters, digits and hyphens")
    if _OURS.fullmatch(_folded(name)):
        raise _invalid(f"have {reprlib.repr(name)}, which callbacks or the connection sets")
    if not isinstance(value, str) or not _VALUE.fullmatch(value):
        raise _invalid(
            f"have a bad value for {reprlib.repr(name)}; expected a str of latin-1 characters "
            "without line breaks, other control characters and outer whitespace"
        )


def _folded(name: str) -> str:
    """The name as receivers see it: many (CGI, WSGI) do not distinguish `_` and `-`."""
    return name.lower().replace("_", "-")


def _invalid(problem: str) -> InvalidCallback:
    return InvalidCallback("headers", problem)
