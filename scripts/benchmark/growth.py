"""What a backlog costs: the time of a claim, and memory, with 500 destinations."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from itertools import chain
from statistics import median
from typing import Any, Final

from callbacks.batcher.client import connect
from callbacks.batcher.store import Batcher
from callbacks.model import Batch, Effect, Feedback, Go, Item, Outcome, Reason
from callbacks.request.freeze import freeze, pack
from callbacks.settings import Settings, load_settings
from scripts.benchmark.contenders import UNPACED
from scripts.benchmark.options import Options, Say
from scripts.benchmark.request import BODY, DATA
from scripts.benchmark.table import Row, compared, figure, percentile
from tests.support.server import Server

DESTINATIONS: Final = 500
BATCH: Final = 100
_CLAIMS: Final = 15
_CHUNK: Final = 1_000
_DAY_MS: Final = 86_400_000
_ID: Final = "c-{:09}"
CLAIM: Final = f"a claim of {BATCH} with so many waiting for {DESTINATIONS} destinations"
MEMORY: Final = "memory of Redis for each callback"
_ENDINGS: Final[dict[str, Outcome | None]] = {
    "processing": None,
    "sent": Outcome.SENT,
    "dead": Outcome.DEAD,
}
#: By the number of waiting callbacks: the time of each claim in ms, round by round.
Claims = dict[int, list[list[float]]]
#: By the number of waiting callbacks: bytes of one beyond its payload, and in all, each round.
Memory = dict[int, list[tuple[float, float]]]


class _Stock:
    """One Redis with callbacks in it, filled by the batcher's own verbs."""

    def __init__(self, batcher: Batcher) -> None:
        self.batcher = batcher
        self.client = batcher.scripts.client
        self._requests = [self._request(n, batcher.settings) for n in range(DESTINATIONS)]
        self.waiting = 0
        self.empty = self.used()

    @staticmethod
    def _request(n: int, settings: Settings) -> tuple[str, bytes, int]:
        url = f"https://customer-{n:03}.example/hooks/ai"
        request = freeze(
            url,
            DATA,
            event="image.completed",
            environment="production",
            headers=None,
            lane=None,
            settings=settings,
            now=datetime.now(UTC),
        )
        return request.destination, pack(request), len(url) + len(request.body)

    def used(self) -> int:
        """Bytes that Redis has allocated."""
        info: Any = self.client.info("memory")
        return int(info["used_memory"])

    @property
    def payload(self) -> float:
        """The bytes of body, URL and id of one callback, on average."""
        return sum(size for *_, size in self._requests) / DESTINATIONS + len(_ID.format(0))

    def prove(self) -> None:
        """Make every destination proven; else it gets one request at a time first."""
        keys = self.batcher.scripts.keys
        for destination, *_ in self._requests:
            self.client.hset(keys.of("dest:", destination), "ok", 1)

    def fill(self, count: int) -> None:
        """Enqueue until `count` are waiting."""
        for start in range(self.waiting, count, _CHUNK):
            numbers = range(start, min(start + _CHUNK, count))
            self.batcher.enqueue_many(self._item(n) for n in numbers)
        self.waiting = count

    def _item(self, n: int) -> Item:
        destination, packed, _ = self._requests[n % DESTINATIONS]
        return Item(_ID.format(n), destination, packed, 0, _DAY_MS)

    def claim(self) -> tuple[float, Batch]:
        """Claim one batch; returns the time in ms, and the batch."""
        owner = secrets.token_hex(16)
        fence = self.batcher.lock(owner)
        started = time.perf_counter()
        batch = self.batcher.claim(owner, fence)
        while len(batch.callbacks) < BATCH:  # it comes in steps
            step = self.batcher.claim(owner, fence, taken=len(batch.callbacks))
            if not step.callbacks:
                raise AssertionError(f"{len(batch.callbacks)} claimed of {BATCH}: {step.result}")
            batch = replace(step, callbacks=batch.callbacks + step.callbacks)
        took_ms = (time.perf_counter() - started) * 1_000
        self.batcher.unlock(owner, fence)
        return took_ms, batch

    def claim_and_return(self) -> float:
        """The time of a claim in ms; its callbacks are released again."""
        took_ms, batch = self.claim()
        for one in batch.callbacks:
            self.batcher.release(one.id, one.token, batch.now_ms)
        return took_ms

    def attempt(self, settle: Callable[[Any, Go], object]) -> None:
        """Claim one batch, begin all of it, and hand each to `settle`."""
        _, batch = self.claim()
        for one in batch.callbacks:
            gate = self.batcher.begin(one.id, one.token)
            if not isinstance(gate, Go):
                raise TypeError(f"the gate said {gate}")
            settle(one, gate)

    def end(self, one: Any, gate: Go, outcome: Outcome) -> None:
        """End an attempt as delivery would."""
        sent = outcome is Outcome.SENT
        reason = None if sent else Reason.CLIENT_ERROR
        tail = "200,null" if sent else '404,"client_error"'
        self.batcher.settle(
            one.id,
            one.token,
            gate.attempt,
            outcome,
            reason=reason,
            feedback=Feedback(Effect.NONE),
            entry=f'[{gate.attempt},{gate.now_ms},"{outcome.value}",{tail},12]',
            duration_ms=12,
        )


@contextmanager
def _stock(server: Server) -> Iterator[_Stock]:
    server.start()
    settings = {**UNPACED, "CALLBACKS_BATCH_SIZE": BATCH, "CALLBACKS_MIN_INTERVAL": 0}
    given = {name: str(value) for name, value in settings.items()}
    client = connect(load_settings({"REDIS_URL": server.url} | given))
    try:
        stock = _Stock(Batcher(client, load_settings({"REDIS_URL": server.url} | given)))
        stock.prove()
        yield stock
    finally:
        client.close()
        client.connection_pool.disconnect()
        server.stop()


class Growth:
    """Claims and memory with three backlogs side by side; keeps what the charts need."""

    def __init__(self, options: Options, say: Say) -> None:
        self._options, self._say = options, say
        self.curve: list[tuple[int, float]] = []

    @property
    def _sizes(self) -> tuple[int, int, int]:
        return (1_000, 3_000, 10_000) if self._options.quick else (1_000, 100_000, 1_000_000)

    def rows(self) -> list[Row]:
        """The time of a claim, and the memory of a waiting callback, on new servers each round."""
        times: Claims = {size: [] for size in self._sizes}
        memory: Memory = {size: [] for size in self._sizes}
        for _ in range(self._options.rounds):
            self._round(times, memory)
        self.curve = [(size, median(map(median, took))) for size, took in times.items()]
        what = f"waiting: beyond body, URL and id, of all ({len(BODY)} B body)"
        waiting = [_row(f"{size:,} {what}", measured) for size, measured in memory.items()]
        return [*self._claims(times), *waiting]

    def _round(self, times: Claims, memory: Memory) -> None:
        """Fill three servers, measure their memory, and claim from each in turn."""
        with ExitStack() as stack:
            stocks = {
                size: stack.enter_context(_stock(self._options.new_server()))
                for size in self._sizes
            }
            for size, stock in stocks.items():
                stock.fill(size)
                each = (stock.used() - stock.empty) / size
                memory[size].append((each - stock.payload, each))
                self._say(f"{size:,} wait")
            took: dict[int, list[float]] = {size: [] for size in stocks}
            for _ in range(_CLAIMS):
                for size, stock in stocks.items():
                    took[size].append(stock.claim_and_return())
        for size, each_ms in took.items():
            times[size].append(each_ms)

    def _claims(self, times: Claims) -> Iterator[Row]:
        first = times[self._sizes[0]]
        for size, took in times.items():
            slowest = figure(percentile(chain(*took), 0.95), "ms")
            what = f"{size:,} waiting, beside {self._sizes[0]:,} (95th percentile {slowest})"
            yield compared(CLAIM, what, [*map(median, took)], [*map(median, first)], "ms")

    def states(self) -> list[Row]:
        """The memory of one callback that is being sent, was sent, or is dead."""
        count = self._options.at_most(1_000, 10_000)
        rows = []
        for name, outcome in _ENDINGS.items():
            measured = [self._state(outcome, count) for _ in range(self._options.rounds)]
            kept = "id" if outcome is Outcome.SENT else "body, URL and id"
            rows.append(_row(f"{name}, of {count:,}: beyond {kept}, of all", measured))
            self._say(f"{name}: {rows[-1].this}")
        return rows

    def _state(self, outcome: Outcome | None, count: int) -> tuple[float, float]:
        with _stock(self._options.new_server()) as stock:
            stock.fill(count)
            for _ in range(count // BATCH):
                if outcome is None:
                    stock.attempt(lambda *_: None)
                else:
                    stock.attempt(lambda one, gate: stock.end(one, gate, outcome))
            each = (stock.used() - stock.empty) / count
            bare = outcome is Outcome.SENT  # its body and URL are gone
            kept = len(_ID.format(0)) if bare else stock.payload
        return each - kept, each


def _row(what: str, measured: Sequence[tuple[float, float]]) -> Row:
    """Bytes of one callback beyond its payload, beside all its bytes, in each round."""
    beyond, all = zip(*measured, strict=True)
    return compared(MEMORY, what, beyond, all, "B")
