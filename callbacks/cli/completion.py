"""What the shell completes: ids and destinations, read from Redis within a second.

Whatever goes wrong completes nothing: a shell has no place for an error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import chain, islice
from typing import Any, Final

from click.shell_completion import CompletionItem

from callbacks.batcher.inspector import is_mark
from callbacks.batcher.scripts import Scripts
from callbacks.model import State
from callbacks.runtime import with_one_connection

#: Completions shown; more help nobody.
_MOST: Final = 100
#: Of each structure so many are looked at: the newest, or those that come next.
_LOOKED_AT: Final = 5_000
_PATIENCE_S: Final = 1.0
#: Where the ids of a state are, and whether the newest are at the end.
_STRUCTURES: Final = {
    State.QUEUED: ("expiry", False),
    State.PROCESSING: ("processing", False),
    State.DEAD: ("dead", True),
    State.SENT: ("sent", True),
}

#: `sent` holds cancelled ones, too, and `expiry` those in processing.
_SHOWN: Final = {State.SENT: "sent or cancelled", State.QUEUED: "waiting"}

#: Reads what one shard has.
_Read = Callable[[Scripts], Iterator[CompletionItem]]


def ids(states: frozenset[State], start: str) -> list[CompletionItem]:
    """Complete an id of a callback in one of these states."""

    def read(shard: Scripts) -> Iterator[CompletionItem]:
        for state, (name, newest_last) in _STRUCTURES.items():
            if state in states:
                for id in _members(shard, name, newest_last=newest_last):
                    yield CompletionItem(id, help=_SHOWN.get(state, state))

    return _completed(read, start)


def destinations(start: str) -> list[CompletionItem]:
    """Complete a destination that waits, or was used within a day."""

    def read(shard: Scripts) -> Iterator[CompletionItem]:
        for name, shown in (("ring", "waiting"), ("unproven", "waiting"), ("destinations", None)):
            for destination in _members(shard, name):
                if not is_mark(destination):
                    yield CompletionItem(destination, help=shown)

    return _completed(read, start)


def _members(shard: Scripts, name: str, *, newest_last: bool = False) -> list[str]:
    raw: Any = shard.client.zrange(shard.keys.of(name), 0, _LOOKED_AT - 1, desc=newest_last)
    return [member.decode() for member in raw]


def _completed(read: _Read, start: str) -> list[CompletionItem]:
    """The first few that begin like this, each once."""
    found: dict[str, CompletionItem] = {}
    with suppress(Exception):
        shards = with_one_connection(_PATIENCE_S).batcher.scripts.shards
        items = chain.from_iterable(map(read, shards))
        fitting = (item for item in items if str(item.value).startswith(start))
        for item in islice(fitting, _MOST):
            found.setdefault(item.value, item)
    return list(found.values())
