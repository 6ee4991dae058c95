"""A receiver for tests: `answer(hit, nth)` answers the nth request for an id."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from types import TracebackType

from callbacks.cli.receiver import Hit, Receiver, Response

__all__ = ["Hit", "Response", "Target"]


class Target:
    """Listens on a free loopback port. An answer is a status, or a Response with a delay.

    `answer` runs in the receiver's only thread, so it must not wait or sleep.
    """

    def __init__(
        self,
        answer: Callable[[Hit, int], int | Response] = lambda hit, nth: 200,
        *,
        headers: dict[str, str] | None = None,
    ) -> None:
        self._answer, self._headers = answer, tuple((headers or {}).items())
        self._seen = Counter[str]()
        self._receiver = Receiver(behaviour=self._behave)

    @property
    def url(self) -> str:
        return self._receiver.url("/hook")

    @property
    def hits(self) -> list[Hit]:
        return list(self._receiver.hits)

    def counts(self) -> Counter[str]:
        return Counter(hit.id for hit in self.hits)

    def gaps_ms(self) -> list[float]:
        times = sorted(hit.at_s for hit in self.hits)
        return sorted((y - x) * 1000 for x, y in pairwise(times))

    def _behave(self, hit: Hit) -> Response:
        self._seen[hit.id] += 1
        said = self._answer(hit, self._seen[hit.id])
        return said if isinstance(said, Response) else Response(said, self._headers)

    def __enter__(self) -> Target:
        self._receiver.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._receiver.__exit__(kind, error, trace)
