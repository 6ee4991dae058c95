"""The functions that applications call: configure, enqueue, get_status and the others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

import redis

from callbacks.batcher.errors import documented
from callbacks.batcher.inspector import Status, find
from callbacks.batcher.paging import pages
from callbacks.batcher.routes import grouped
from callbacks.batcher.store import ENQUEUE_STEP
from callbacks.delivery.callback import AICallback
from callbacks.delivery.reach import check_addresses
from callbacks.model import (
    Cancelled,
    InvalidCallback,
    Item,
    QueueFull,
    Receipt,
    SettingsError,
    Signal,
    Stored,
)
from callbacks.request.freeze import check_id, pack
from callbacks.request.secrets import SecretResolverError, load_resolver
from callbacks.request.urls import normal_url
from callbacks.runtime import Runtime, runtime
from callbacks.runtime import configure as configure_runtime
from callbacks.telemetry import Enqueueing, enqueueing
from callbacks.units import ms
from callbacks.when import Moment, read_when

#: Callbacks per pipeline, and over several shards so many times more: else each would get few.
CHUNK: Final = 500
_MOST_CHUNKS: Final = 4
#: Why a callback with a known id was not accepted, where nobody reads its receipt.
CONFLICT: Final = "id: is known with another URL, event, environment or data"


_PARAMETERS: Final = frozenset(
    {
        "callback_url",
        "data",
        "event",
        "id",
        "environment",
        "headers",
        "expires_in",
        "delay",
        "lane",
    }
)


def configure(**settings: object) -> None:
    """Set settings in code, by the names of their fields: `batch_size=5` is CALLBACKS_BATCH_SIZE=5.

    A value is what the variable would have, or of Python's own type (a number, a list of hosts);
    None is the default. `environment_secrets` maps environments to their secrets. A variable of the
    environment comes first. A later call adds to an earlier one. To be called while the application
    starts, in each of its processes; opens nothing.

    Raises `SettingsError` for an unknown name or a bad value, and if this process uses other values
    already; nothing is changed then.
    """
    configure_runtime(settings)


def enqueue(
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
    """Enqueue one callback: an HTTP POST of `data` owed to `callback_url`.

    Returns once Redis has stored it. A known `id` is not accepted again; the receipt says whether
    it was known with another URL, event, environment or data (`conflict`).

    `data` is what JSON holds, and may have datetimes and dates (written in ISO 8601), UUIDs and
    Decimals (as text), members of an Enum (their value) and dataclasses (an object of their
    fields). `expires_in` and `delay` are seconds, or given as in the commands (`"10m"`, `"2h"`, an
    RFC 3339 time), as a `timedelta` or as an aware `datetime`; `lane` (for example a customer's id)
    is a destination of its own on a host that many customers share.

    Raises `InvalidCallback` (a ValueError) for bad input, `SettingsError` for a bad setting and
    `QueueFull` if there is no room; nothing is stored then. Raises redis' `ConnectionError` or
    `TimeoutError` if Redis cannot be reached, and `RedisRefused`, a `ConnectionError`, if it
    answers but does not store it. `QueueFull` and the Redis errors carry `callback_id`; it is
    safe to repeat the call with that id.
    """
    parts = runtime()
    with traced_enqueue(parts) as traced:
        item, callback = freeze(
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
        check_signable(callback)
        with documented_errors(item.id):
            stored = parts.batcher.enqueue(item)
        traced.stored(item.id, item.destination, accepted=stored.accepted)
        _announce(parts, [stored])
    return receipt_of(item, stored)


def enqueue_many(items: Iterable[Mapping[str, Any]]) -> list[Receipt]:
    """Enqueue many callbacks, each a mapping with the parameters of `enqueue`.

    They go to Redis in pipelines; all are stored when this returns. Every item is checked before
    the first is stored, so bad input (`InvalidCallback`, whose field has the item's index) stores
    nothing. After the other errors of `enqueue` some may be stored; with ids of your own, it is
    safe to repeat the call. The error carries the `receipts` of stored callbacks; `callback_id`
    is the first that may not be stored.
    """
    parts = runtime()
    with traced_enqueue(parts) as traced:
        return _enqueue_many(parts, items, traced)


def traced_enqueue(parts: Runtime) -> Enqueueing:
    """Trace one call, if this process traces."""
    return enqueueing(parts.settings.namespace, masks_paths=parts.settings.mask_paths)


def _enqueue_many(
    parts: Runtime, items: Iterable[Mapping[str, Any]], traced: Enqueueing
) -> list[Receipt]:
    now = datetime.now(UTC)
    frozen: list[Item] = []
    for place, item in enumerate(items):
        with placed(place):
            frozen.append(prepare(parts, item, now, trace=traced.context))
    traced.stored_many(len(frozen))
    receipts: list[Receipt] = []
    for chunk in pages(frozen, chunk_size(parts)):
        with documented_errors(chunk[0].id, receipts):
            results = store(parts, chunk)
        add_receipts(receipts, chunk, results)
    return receipts


def chunk_size(parts: Runtime) -> int:
    """How many callbacks go to Redis together."""
    return CHUNK * min(_MOST_CHUNKS, parts.settings.shards)


def add_receipts(
    receipts: list[Receipt], items: Iterable[Item], results: Iterable[Stored | Exception]
) -> None:
    """Add the receipts of one `store`; raises the first error in it, with all receipts."""
    answers = list(zip(items, results, strict=True))
    receipts += [receipt_of(item, result) for item, result in answers if isinstance(result, Stored)]
    for item, result in answers:
        if isinstance(result, Exception):
            with documented_errors(item.id, receipts):
                raise result


def receipt_of(item: Item, stored: Stored) -> Receipt:
    """Make the receipt for what Redis answered."""
    return Receipt(item.id, stored.accepted, stored.conflict)


@contextmanager
def documented_errors(id: str, receipts: Iterable[Receipt] = ()) -> Iterator[None]:
    """Turn Redis errors into documented ones; adds `callback_id` and `receipts`."""
    try:
        yield
    except (redis.RedisError, QueueFull) as error:
        told: Any = documented(error) if isinstance(error, redis.RedisError) else error
        told.callback_id, told.receipts = id, tuple(receipts)
        if told is error:
            raise
        raise told from error


def cancel(id: str) -> bool:
    """Keep a callback from being sent, or sent again; False if it is sent, dead or unknown.

    Raises `InvalidCallback` for an invalid id, and the Redis errors of `enqueue`.
    """
    with documented_errors(check_id(id)):
        return runtime().batcher.cancel(id) in (Cancelled.CANCELLED, Cancelled.IN_FLIGHT)


def get_status(id: str) -> Status | None:
    """Return the status of a callback; None if its id is unknown. Raises as `cancel`."""
    with documented_errors(check_id(id)):
        return find(runtime().batcher.scripts, id)


def check_url(url: str) -> str:
    """Check a customer's URL when it is registered: would it be accepted, may it be reached?

    Its form and scheme are checked as `enqueue` does, and every address of its host as a worker
    does before it connects. Sends nothing, and says nothing of the future: a name may resolve to
    another address later, so workers check again. Takes as long as the name lookup, at most
    `CALLBACKS_DEADLINE`. Returns the URL as it would be stored.

    Raises `InvalidCallback`, which says what is wrong and what is expected, and `SettingsError`.
    """
    parts = runtime()
    normal = normal_url(url, https_only=parts.settings.https_only)
    check_addresses(normal, parts.settings, lookups=parts.lookups)
    return normal


def prepare(parts: Runtime, item: object, now: datetime, *, trace: str = "") -> Item:
    """Check and freeze one mapping with the parameters of `enqueue`; stores nothing.

    `trace`: see `Request`. Raises `InvalidCallback`.
    """
    frozen, callback = freeze(parts, now=now, trace=trace, **parameters(item))
    check_signable(callback)
    return frozen


def store(
    parts: Runtime, items: Iterable[Item], *, step_size: int = ENQUEUE_STEP
) -> list[Stored | Exception]:
    """Store prepared callbacks and send the wake-up they need.

    For an item that was not stored, the list has its error; the `step_size` that are stored by
    one script share some errors.
    """
    results = parts.batcher.enqueue_many(items, step_size=step_size)
    _announce(parts, [result for result in results if isinstance(result, Stored)])
    return results


def _announce(parts: Runtime, stored: list[Stored]) -> None:
    """Send the one wake-up that the answers to enqueues ask for, in each shard."""
    told = grouped((reply for reply in stored if reply.signal), lambda reply: reply.shard)
    for shard, replies in told.items():
        messages = parts.messages.of(shard)
        if any(reply.signal is Signal.TRIGGER for reply in replies):
            messages.trigger(0)
        else:
            messages.check(min(reply.wait_ms for reply in replies))


@contextmanager
def placed(place: int) -> Iterator[None]:
    """Add its place among many to the field that an `InvalidCallback` names."""
    try:
        yield
    except InvalidCallback as error:
        raise InvalidCallback(f"[{place}].{error.field}", error.problem) from None


def parameters(item: object) -> dict[str, Any]:
    """Read the parameters of `enqueue` from a mapping; raises for missing and unknown ones."""
    if not isinstance(item, Mapping):
        raise InvalidCallback("item", f"is {type(item).__name__}; expected a mapping")
    for name in ("callback_url", "data"):
        if name not in item:
            raise InvalidCallback(name, "is missing")
    for name in item:
        if name not in _PARAMETERS:
            expected = ", ".join(sorted(_PARAMETERS))
            raise InvalidCallback(str(name), f"is not a parameter; expected some of {expected}")
    return dict(item)


def freeze(
    parts: Runtime,
    *,
    now: datetime,
    expires_in: float | Moment | None = None,
    delay: float | Moment | None = None,
    event: str | None = None,
    trace: str = "",
    **given: Any,
) -> tuple[Item, AICallback]:
    """Check and freeze the parameters of `enqueue`; the caller calls `check_signable` next.

    Waits for nothing. Raises `InvalidCallback`.
    """
    settings = parts.settings
    life_ms = _milliseconds("expires_in", expires_in, settings.max_age, low=1, now=now)
    delay_ms = _milliseconds("delay", delay, 0.0, low=0, now=now)
    life_ms = min(life_ms, ms(settings.max_age))
    if delay_ms >= life_ms:
        ends = f"the callback would expire after {life_ms / 1000:g} s"
        problem = f"is {delay_ms / 1000:g} s, but {ends}"
        raise InvalidCallback("delay", problem)
    callback = AICallback(
        **given,
        event="callback" if event is None else event,
        settings=settings,
        now=now,
    )
    request = callback.request
    if trace:
        request = replace(request, trace=trace)
    id = callback.id
    if given.get("id") is None:
        id = parts.batcher.name(id, request.destination)
    return Item(id, request.destination, pack(request), delay_ms, life_ms), callback


def check_signable(callback: AICallback) -> None:
    """Raise `InvalidCallback` if there is no secret for a callback that has to be signed.

    Calls the secret resolver, the application's code, which may take any time. Raises
    `SettingsError` if it cannot be loaded.
    """
    _check_resolver(callback.settings.secret_resolver)
    if not callback.signable:
        problem = f"no secret is configured for environment {callback.request.environment!r}"
        raise InvalidCallback("environment", problem)


def _check_resolver(path: str) -> None:
    """Raise `SettingsError` if the secret resolver cannot be loaded.

    One that fails when called may work later; one that cannot be loaded is a wrong setting.
    """
    if not path:
        return
    try:
        load_resolver(path)
    except SecretResolverError as error:
        problem = f"CALLBACKS_SECRET_RESOLVER: {error}; expected module:function"
        raise SettingsError(problem) from error


def _milliseconds(
    field: str, value: float | Moment | None, default: float, *, low: int, now: datetime
) -> int:
    if value is None:
        return ms(default)
    if isinstance(value, Moment):
        try:
            value = read_when(value).ahead(now.timestamp())
        except ValueError as error:
            raise InvalidCallback(field, str(error)) from None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidCallback(field, f"is {type(value).__name__}; expected seconds, a number")
    expected = "more than 0" if low else "0 or more"
    if not 0 <= value <= 366 * 86_400 or ms(value) < low:
        raise InvalidCallback(field, f"is {value} s; expected {expected} and at most a year")
    return ms(value)
