"""The functions of `callbacks.api` for asyncio: aenqueue, aenqueue_many, acancel, aget_status.

Checking and freezing a callback waits for nothing, so it is done here. What waits, for Redis or for
the application's secret resolver, is done by daemon threads, with the connections and scripts of
all other threads: redis-py's asyncio client would need both again for each event loop. The
callbacks of many coroutines go to Redis together.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Final
from weakref import WeakKeyDictionary

from callbacks import api
from callbacks.aio.threads import DaemonThreads
from callbacks.batcher.inspector import Status
from callbacks.batcher.paging import pages
from callbacks.delivery.callback import AICallback
from callbacks.model import Item, Receipt, Stored
from callbacks.request.freeze import check_id
from callbacks.runtime import Runtime, runtime, runtime_if_made
from callbacks.when import Moment

#: How long callbacks are checked and frozen before other coroutines run, whoever enqueues them.
_SLICE_S: Final = 0.002
#: When that began in the present round of an event loop.
_slices: Final[WeakKeyDictionary[asyncio.AbstractEventLoop, float]] = WeakKeyDictionary()

_STORING: Final = DaemonThreads("callbacks-store")
#: Questions and cancels, which are repeated when Redis does not answer, and hold up nobody else.
_ASKING: Final = DaemonThreads("callbacks-ask", most=4)
#: The resolver is the application's code and may hang.
_RESOLVING: Final = DaemonThreads("callbacks-resolve", most=16)


async def aenqueue(
    callback_url: str,
    data: Any,
    *,
    event: str = "callback",
    id: str | None = None,
    environment: str | None = None,
    headers: Mapping[str, str] | None = None,
    expires_in: float | Moment | None = None,
    delay: float | Moment | None = None,
    lane: str | None = None,
) -> Receipt:
    """Enqueue one callback, as `enqueue` does, without holding up the event loop.

    If the task is cancelled meanwhile, the callback is stored either completely or not at all. The
    `CancelledError` carries `callback_id`, with which the call can be repeated; it is the
    `__cause__` of the `TimeoutError` that `asyncio.timeout` and `asyncio.wait_for` raise.
    """
    parts = await _parts()
    with api.traced_enqueue(parts) as traced:
        await _take_turn()
        item, callback = api.freeze(
            parts,
            callback_url=callback_url,
            data=data,
            event=event,
            id=id,
            environment=environment,
            headers=headers,
            expires_in=expires_in,
            delay=delay,
            lane=lane,
            now=datetime.now(UTC),
            trace=traced.context,
        )
        with _traceable(item.id):
            await check_signable(callback)
            stored: Stored = await _STORING.join(_store_each, item)
        traced.stored(item.id, item.destination, accepted=stored.accepted)
    return api.receipt_of(item, stored)


async def aenqueue_many(items: Iterable[Mapping[str, Any]]) -> list[Receipt]:
    """Enqueue many callbacks, as `enqueue_many` does, without holding up the event loop.

    A `CancelledError` carries `callback_id` and `receipts`, as the Redis errors do.
    """
    parts = await _parts()
    with api.traced_enqueue(parts) as traced:
        frozen = await _freeze_all(parts, items, traced.context)
        traced.stored_many(len(frozen))
        receipts: list[Receipt] = []
        for chunk in pages(frozen, api.chunk_size(parts)):
            with _traceable(chunk[0].id, receipts):
                results = await _STORING.call(_store, chunk)
            api.add_receipts(receipts, chunk, results)
    return receipts


async def acancel(id: str) -> bool:
    """Cancel a callback, as `cancel` does, without holding up the event loop."""
    check_id(id)
    with _traceable(id):
        return await _ASKING.call(api.cancel, id)


async def aget_status(id: str) -> Status | None:
    """Return a callback's status, as `get_status` does, without holding up the event loop."""
    check_id(id)
    with _traceable(id):
        return await _ASKING.call(api.get_status, id)


async def store(items: Sequence[Item]) -> list[Stored | Exception]:
    """Store checked callbacks of one caller, and go on if the task is cancelled meanwhile.

    For an item that was not stored, the list has its error; what is wrong with one is no error of
    the others. Raises the Redis errors of `enqueue`.
    """
    return await asyncio.shield(_STORING.call(_store_each, list(items)))


async def _parts() -> Runtime:
    """The parts of this process; the first call imports modules, so it is made in a thread."""
    made = runtime_if_made()
    if made is None:
        made = await _ASKING.call(_make, None)
    return made


def _make(_: None) -> Runtime:
    return runtime()


async def check_signable(callback: AICallback) -> None:
    """Raise as `api.check_signable`; a secret resolver is called in a thread."""
    if callback.settings.secret_resolver:
        await _RESOLVING.call(api.check_signable, callback)
    else:
        api.check_signable(callback)


async def _freeze_all(parts: Runtime, items: Iterable[Mapping[str, Any]], trace: str) -> list[Item]:
    """Check and freeze many callbacks."""
    now = datetime.now(UTC)
    frozen: list[Item] = []
    for place, given in enumerate(items):
        await _take_turn()
        with api.placed(place):
            item, callback = api.freeze(parts, now=now, trace=trace, **api.parameters(given))
            await check_signable(callback)
        frozen.append(item)
    return frozen


async def _take_turn() -> None:
    """Wait for the next round of the event loop if this one has taken long enough."""
    loop = asyncio.get_running_loop()
    while True:
        began = _slices.get(loop)
        if began is None:
            _slices[loop] = time.monotonic()
            loop.call_soon(_slices.pop, loop, None)  # when the next round begins
            return
        if time.monotonic() - began < _SLICE_S:
            return
        await asyncio.sleep(0)


def _store_each(items: list[Item]) -> list[Stored | Exception]:
    """Store callbacks of different callers: what is wrong with one is no error of the others."""
    return api.store(runtime(), items, step_size=1)


def _store(items: list[Item]) -> list[Stored | Exception]:
    return api.store(runtime(), items)


@contextmanager
def _traceable(id: str, receipts: Iterable[Receipt] = ()) -> Iterator[None]:
    """Add `callback_id` and `receipts` to the errors of Redis, and to a cancellation."""
    try:
        with api.documented_errors(id, receipts):
            yield
    except asyncio.CancelledError as error:
        told: Any = error
        told.callback_id, told.receipts = id, tuple(receipts)
        raise
