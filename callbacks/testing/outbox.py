"""Records what is enqueued. Nothing is stored in Redis and nothing is sent."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Final, NamedTuple, Self, cast, overload

import redis

from callbacks.batcher.client import connect
from callbacks.batcher.shards import Shards
from callbacks.model import Cancelled, Item, QueueFull, Stored
from callbacks.runtime import Runtime
from callbacks.settings import Settings, load_settings
from callbacks.testing.current import NAMES, in_use
from callbacks.testing.environ import Environ
from callbacks.testing.requests import Enqueued

#: Nothing listens there. It says so in the error of whatever tries to use Redis all the same.
_NOWHERE: Final = "unix:///callbacks_outbox-has-no-server--use-callbacks_app"


#: What follows the environment in a body; within a text its quotation marks would be escaped.
_DATA: Final = b'","data":'


class _Kept(NamedTuple):
    """What is known of one. `cancelled_ms`: since when it is cancelled, 0 if it is not."""

    enqueued: Enqueued
    item: Item
    at_ms: int
    cancelled_ms: int = 0


class CallbacksOutbox(Sequence[Enqueued]):
    """What was enqueued, in order. A context manager, one at a time.

    Input and settings are checked as always; the environment has none of the developer's own
    settings, but a secret. Set `error` to have each enqueue raise it, for example `QueueFull(...)`
    or `redis.ConnectionError()`; it then carries `callback_id` as a real one does.
    """

    def __init__(self, **settings: object) -> None:
        self._given = settings
        self._stack = ExitStack()
        self._environ = Environ()
        self._kept: dict[str, _Kept] = {}
        self.error: Exception | None = None

    def __enter__(self) -> Self:
        self._stack.enter_context(in_use(self, self._build, self._environ, _NOWHERE, self._given))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def _build(self) -> Runtime:
        settings = load_settings()
        batcher = cast(Shards, _Store(self, settings))
        return Runtime(settings, connect(settings), batcher, _NoWakeups(), NAMES)

    # The sequence

    @overload
    def __getitem__(self, index: int) -> Enqueued: ...

    @overload
    def __getitem__(self, index: slice) -> list[Enqueued]: ...

    def __getitem__(self, index: int | slice) -> Enqueued | list[Enqueued]:
        return self._listed()[index]

    def __len__(self) -> int:
        return len(self._listed())

    def __repr__(self) -> str:
        return f"CallbacksOutbox({self._listed()!r})"

    def _listed(self) -> list[Enqueued]:
        return [each.enqueued for each in self._kept.values() if not each.cancelled_ms]

    def clear(self) -> None:
        """Forget everything, ids too."""
        self._kept.clear()

    # What the batcher does

    def add(self, item: Item, max_queued: int) -> Stored:
        """Take one; raises `error`, and `QueueFull` as Redis would."""
        if self.error is not None:
            raise self.error
        enqueued = Enqueued.of(item)
        if item.id in self._kept:
            return Stored(accepted=False, conflict=self._kept[item.id].enqueued.differs(enqueued))
        if 0 < max_queued <= len(self):
            raise QueueFull(f"{len(self)} callbacks wait, as many as CALLBACKS_MAX_QUEUED allows")
        self._kept[item.id] = _Kept(enqueued, item, _now_ms())
        return Stored(accepted=True)

    def cancel(self, id: str) -> Cancelled:
        """Leave it out from now on."""
        if id not in self._kept:
            return Cancelled.UNKNOWN
        kept = self._kept[id]
        self._kept[id] = kept._replace(cancelled_ms=kept.cancelled_ms or _now_ms())
        return Cancelled.CANCELLED

    def where(self, id: str) -> list[Any]:
        """Answer as `where.lua` does."""
        if id not in self._kept:
            return [_now_ms(), b"", b"", b"", b"", b"", b"", b"", 0, b""]
        _, item, at_ms, cancelled_ms = self._kept[id]
        name = item.destination.encode()
        head = item.request.partition(_DATA)[0] + b'"'
        if cancelled_ms:
            record = [b"s", b"cancelled", b"o", b"cancelled", b"f", b"%d" % cancelled_ms]
            return [_now_ms(), name, b"", b"", b"", cancelled_ms, b"", b"", 0, head, *record]
        due_ms, end_ms = at_ms + item.delay_ms, at_ms + item.life_ms
        return [_now_ms(), name, due_ms, b"", end_ms, b"", b"", b"", 1, head]


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


class _Store:
    """What the functions of `callbacks` call of `Shards`."""

    def __init__(self, outbox: CallbacksOutbox, settings: Settings) -> None:
        self._outbox, self.settings = outbox, settings
        self.scripts = _Scripts(outbox)

    def name(self, id: str, _destination: str) -> str:
        return id

    def enqueue(self, item: Item) -> Stored:
        return self._outbox.add(item, self.settings.max_queued)

    def enqueue_many(self, items: Iterable[Item], **_options: object) -> list[Stored | Exception]:
        results: list[Stored | Exception] = []
        for item in items:
            try:
                results.append(self.enqueue(item))
            except Exception as error:  # noqa: BLE001 - whatever the test wants to have raised
                results.append(error)
        return results

    def cancel(self, id: str, *, entry: str = "") -> Cancelled:  # noqa: ARG002 - a batcher's
        return self._outbox.cancel(id)


class _Scripts:
    """Answers what `get_status` asks."""

    def __init__(self, outbox: CallbacksOutbox) -> None:
        self._outbox = outbox

    def run(self, name: str, arguments: Mapping[str, Any]) -> list[Any]:
        if name != "where":
            raise redis.ConnectionError("callbacks_outbox has no Redis: use callbacks_app")
        return self._outbox.where(arguments["id"])


class _NoWakeups:
    """Wake-ups for workers that do not exist."""

    def of(self, shard: int | None) -> _NoWakeups:  # noqa: ARG002 - as `Messages`
        return self

    def batch(self, claimed: Sequence[tuple[str, str, int]]) -> None:
        pass

    def trigger(self, delay_ms: int) -> None:
        pass

    def check(self, delay_ms: int) -> None:
        pass
