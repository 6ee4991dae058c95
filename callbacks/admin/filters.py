"""The input of the functions: destinations, times, limits and cursors, checked alike everywhere.

Whatever is wrong raises `InvalidCallback`, which names the parameter and what is expected.
"""

from __future__ import annotations

import base64
import getpass
import json
import os
import re
import time
from collections.abc import Sequence
from enum import StrEnum
from typing import Any, Final, TypeVar

from callbacks.batcher.journal import entry_of
from callbacks.model import InvalidCallback, Reason, State
from callbacks.request.freeze import check_id
from callbacks.request.urls import Scope, scope_of
from callbacks.runtime import Runtime, host_name
from callbacks.when import Moment, read_when

_Word = TypeVar("_Word", bound=StrEnum)

_STATUS: Final = re.compile(r"[1-5](?:\d\d|xx)")
#: What is not told is told as this.
ALL: Final = "all"


def who_runs_this() -> str:
    """Who runs this process, for the journal: user and machine, or the dyno."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a user without a name, as in some containers
        user = str(os.getuid())
    return f"{user}@{host_name()}"


def journal_entry(
    act: str, target: str, *, who: str | None, why: str, count: int | None = None
) -> str:
    """The entry for an act; `who` is by default who runs this process."""
    return entry_of(
        act, target, who=who_runs_this() if who is None else who, reason=why, count=count
    )


def to_ids(ids: Sequence[str]) -> tuple[str, ...]:
    """Check ids; each comes once."""
    if isinstance(ids, str):
        raise InvalidCallback("ids", "is a str; expected a sequence of ids")
    return tuple(dict.fromkeys(map(check_id, ids)))


def to_scope(found: Runtime, destination: str | None) -> Scope | None:
    """Read a destination, or any URL that belongs to it; see `urls.scope_of`."""
    if destination is None:
        return None
    try:
        return scope_of(destination, shared_hosts=found.settings.shared_hosts)
    except InvalidCallback as error:
        raise InvalidCallback("destination", error.problem) from None


def to_state(state: State | str) -> State:
    """Read a state."""
    return _member(State, "state", state)


def to_reason(reason: Reason | str | None) -> Reason | None:
    """Read a reason."""
    return None if reason is None else _member(Reason, "reason", reason)


def _member(kind: type[_Word], name: str, value: str) -> _Word:
    try:
        return kind(value)
    except ValueError:
        expected = ", ".join(kind)
        problem = f"is {str(value)[:50]!r}; expected one of {expected}"
        raise InvalidCallback(name, problem) from None


def to_since_ms(since: Moment | None) -> int | None:
    """Read the earliest instant, in ms since 1970."""
    return _to_ms("since", since)


def to_until_ms(until: Moment | None) -> int | None:
    """Read the instant before which something was, in ms since 1970."""
    return _to_ms("until", until)


def _to_ms(name: str, given: Moment | None) -> int | None:
    if given is None:
        return None
    try:
        return int(read_when(given).ago(time.time()) * 1000)
    except ValueError as error:
        raise InvalidCallback(name, str(error)) from None


def to_statuses(status: int | str | None) -> tuple[int, int] | None:
    """Read an HTTP status (`401`) or a class of them (`4xx`): the least and the greatest."""
    if status is None:
        return None
    text = str(status).lower()
    if not _STATUS.fullmatch(text):
        problem = f"is {text[:50]!r}; expected a status such as 401, or a class such as 4xx"
        raise InvalidCallback("status", problem)
    return int(text.replace("x", "0")), int(text.replace("x", "9"))


def check_limit(limit: int | None) -> None:
    """Check how many are wanted at most."""
    if limit is not None and limit < 1:
        raise InvalidCallback("limit", f"is {limit!r}; expected a whole number from 1 on")


def to_cursor(kind: str, *place: str | float) -> str:
    """Write a place in a list; `kind` tells it from the cursors of other lists."""
    text = json.dumps([kind, *place], separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def read_cursor(cursor: str | None, kind: str, *parts: type) -> list[Any] | None:
    """Read a place in a list, which has these parts."""
    if cursor is None:
        return None
    expected = "expected that of an earlier page"
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        found_kind, *place = json.loads(text)
        typed = [part(value) for part, value in zip(parts, place, strict=True)]
    except (ValueError, TypeError, OverflowError):
        raise InvalidCallback("cursor", f"is none; {expected}") from None
    if found_kind != kind:
        raise InvalidCallback("cursor", f"is of another list; {expected}")
    return typed
