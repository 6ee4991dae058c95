"""The body of a callback: `{"type", "timestamp", "environment", "data"}` as frozen bytes."""

from __future__ import annotations

import json
import re
import reprlib
from collections.abc import Iterable, Iterator
from dataclasses import fields, is_dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from functools import lru_cache
from typing import Final
from uuid import UUID

from callbacks.model import InvalidCallback

MAX_DEPTH: Final = 200  # levels of data; many receivers' parsers allow fewer

#: What data may hold, in the words of an error.
_ALLOWED: Final = "what JSON can hold, a datetime, date, UUID, Decimal, Enum or dataclass"


def _as_json(value: object) -> object:
    """What stands in JSON for a value that JSON does not have; raises TypeError for others."""
    match value:
        case date():  # a datetime, too
            return value.isoformat()
        case UUID() | Decimal():
            return str(value)
        case Enum():
            return value.value
    if is_dataclass(value):
        return dict(_fields(value))
    raise TypeError(f"{type(value).__name__} is not {_ALLOWED}")


def _fields(value: object) -> Iterator[tuple[str, object]]:
    """The fields of a dataclass, by name."""
    return ((field.name, getattr(value, field.name)) for field in fields(value))  # type: ignore[arg-type]


# Created once: `json.dumps` creates an encoder for each call.
_encode: Final = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_as_json
).encode

# A quotation mark within the type is escaped, so this is never a part of it. A type has at most
# 128 characters, of at most four bytes each.
_CREATED: Final = re.compile(rb'","timestamp":"([^"]{20,32})"')
_HEAD_BYTES: Final = 700

_AS_TEXT: Final = (date, UUID, Decimal)

# The position of a value in data: (path of its container, key or index); () is data itself.
_Path = tuple[object, ...]


def body_of(data: object, *, event: str, environment: str, now: datetime, limit: int) -> bytes:
    """The envelope as compact JSON in UTF-8, at most `limit` bytes; `now` has a time zone.

    Besides what JSON holds, `data` may have datetimes and dates (written in ISO 8601, a datetime
    with the offset that it has), UUIDs and Decimals (as text), members of an Enum (their value) and
    dataclasses (an object with their fields).

    Raises InvalidCallback for the field `data`, with the path of a value that JSON cannot hold
    or that `json` would silently change (keys that are not str, NaN).
    """
    timestamp = _timestamp(now)
    _check_data(data, limit)
    envelope = {"type": event, "timestamp": timestamp, "environment": environment, "data": data}
    try:
        body = _encode(envelope).encode()
    except (ValueError, TypeError, RecursionError) as error:
        raise InvalidCallback("data", f"cannot be encoded as JSON: {error}") from None
    if len(body) > limit:
        raise _too_large(limit, f"{len(body):,}")
    return body


def created_ms(body: bytes) -> int | None:
    """When a body was made, in ms since 1970; None if it is not one of `body_of`."""
    found = _CREATED.search(body, 0, _HEAD_BYTES)
    if found is None:
        return None
    try:
        return round(datetime.fromisoformat(found[1].decode()).timestamp() * 1000)
    except ValueError:
        return None


@lru_cache(maxsize=1)  # callbacks enqueued together share it
def _timestamp(now: datetime) -> str:
    if now.tzinfo is None:
        raise ValueError("now has no time zone")
    return now.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _check_data(data: object, limit: int) -> None:
    """Check each value before encoding any.

    Sizes are counted, and never overestimated, so that this ends early however often data refers
    to the same large value.
    """
    room = limit - 1 - _length(data)
    stack: list[tuple[_Path, object, int]] = [((), data, 0)]
    while stack:
        path, value, depth = stack.pop()
        for key, child in _children(path, value):
            room -= 1 + _length(child) + _length(key)
            if room < 0:
                raise _too_large(limit, f"more than {limit:,}")
            if depth == MAX_DEPTH:
                raise InvalidCallback("data", f"is nested deeper than {MAX_DEPTH} levels")
            if not _is_plain(child):
                stack.append(((path, key), child, depth + 1))


def _is_plain(value: object) -> bool:
    """A quick check for values that are certainly valid, as most are."""
    if isinstance(value, str):
        return value.isascii()
    return value is None or isinstance(value, int)


def _children(path: _Path, value: object) -> Iterable[tuple[object, object]]:
    match value:
        case str():
            _check_unicode(path, value)
        case float() if value - value != 0:  # nan and both infinities
            raise _bad(path, f"is {value}; expected a finite number")
        case None | bool() | int() | float():
            pass
        case dict():
            _check_keys(path, value)
            return value.items()
        case list() | tuple():
            return enumerate(value)
        case Enum():
            return _children(path, value.value)
        case _:
            return _children_of_object(path, value)
    return ()


def _children_of_object(path: _Path, value: object) -> Iterable[tuple[object, object]]:
    if isinstance(value, type) or not (isinstance(value, _AS_TEXT) or is_dataclass(value)):
        raise _bad(path, f"is a {type(value).__name__}; expected {_ALLOWED}")
    if isinstance(value, Decimal) and not value.is_finite():
        raise _bad(path, f"is Decimal({str(value)!r}); expected a finite number")
    return () if isinstance(value, _AS_TEXT) else _fields(value)


def _check_keys(path: _Path, value: dict[object, object]) -> None:
    for key in value:
        if not isinstance(key, str):
            raise _bad(path, f"has the key {reprlib.repr(key)}; expected keys of type str")
        _check_unicode((path, key), key)


def _check_unicode(path: _Path, text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise _bad(path, "has a lone surrogate; expected valid Unicode") from None


def _length(value: object) -> int:
    return len(value) if isinstance(value, str) else 0


def _bad(path: _Path, problem: str) -> InvalidCallback:
    keys: list[str] = []
    while path:
        parent, key = path
        keys.append(f"[{reprlib.repr(key)}]")
        path = parent if isinstance(parent, tuple) else ()
    place = "".join(reversed(keys))
    return InvalidCallback("data", f"{place} {problem}".lstrip())


def _too_large(limit: int, size: str) -> InvalidCallback:
    expected = f"at most {limit:,} (CALLBACKS_MAX_PAYLOAD_BYTES)"
    return InvalidCallback("data", f"makes a body of {size} bytes; expected {expected}")
