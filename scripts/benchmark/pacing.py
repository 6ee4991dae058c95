"""When the callbacks of a burst reach their receiver, with pacing and without."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from scripts.benchmark.contenders import UNPACED
from scripts.benchmark.options import Options, Say
from scripts.benchmark.receiver import ReceiverProcess
from scripts.benchmark.table import Row, absolute
from scripts.benchmark.timing import Timing

#: How many are enqueued at once: in a quick run, and else.
_BURST: Final = (10, 100)
#: The span, s, of which the busiest counts.
_SPAN_S: Final = 0.1


def _stagger(interval_s: float) -> dict[str, object]:
    return {
        "CALLBACKS_ADAPTIVE": "false",
        "CALLBACKS_SEND_INTERVAL": interval_s,
        "CALLBACKS_DESTINATION_INTERVAL": 0,
        "CALLBACKS_MAX_DELAY": 0.5,  # so that the whole burst is there when it begins
    }


#: The same workers, with different settings.
WAYS: Final[Mapping[str, Mapping[str, object]]] = {
    "no pacing": {**UNPACED, "CALLBACKS_MAX_DELAY": 0.5},
    "a stagger of 50 ms": _stagger(0.05),
    "a stagger of 200 ms": _stagger(0.2),
}


class Pacing:
    """Sends a burst to one receiver in each way; keeps the receipts of the last round."""

    def __init__(
        self, options: Options, receiver: ReceiverProcess, timing: Timing, say: Say
    ) -> None:
        self._options, self._receiver, self._timing, self._say = options, receiver, timing, say
        self.receipts_s: dict[str, list[float]] = {}

    def rows(self) -> list[Row]:
        """The most receipts in a tenth of a second, and the time from the first to the last."""
        count = self._options.at_most(*_BURST)
        rounds: dict[str, list[list[float]]] = {name: [] for name in WAYS}
        for _ in range(self._options.rounds):
            for name, settings in WAYS.items():
                rounds[name].append(self._receipts(settings, count))
                self._say(f"a burst, {name}")
        self.receipts_s = {name: all[-1] for name, all in rounds.items()}
        section = f"a burst of {count} to one receiver that answers at once"
        return [row for name, all in rounds.items() for row in _rows(section, name, all)]

    def _receipts(self, settings: Mapping[str, object], count: int) -> list[float]:
        """When each came, in seconds since the first."""
        contender = self._timing.ours(settings)
        with self._timing.running(contender) as (place, _, _):
            self._receiver.reset()
            contender.enqueue(place, count)
            self._receiver.await_count(count, within_s=60)
            first, *others = sorted(self._receiver.times())
        return [0.0, *(time - first for time in others)]


def most_within(times: Sequence[float], span_s: float) -> int:
    """The most instants, of ascending ones, that lie within any span of this length."""
    start = most = 0
    for end, time in enumerate(times):
        while time - times[start] >= span_s:
            start += 1
        most = max(most, end - start + 1)
    return most


def _rows(section: str, name: str, rounds: Sequence[Sequence[float]]) -> list[Row]:
    most = [float(most_within(times, _SPAN_S)) for times in rounds]
    return [
        absolute(section, f"{name}: most within {1_000 * _SPAN_S:.0f} ms", most, ""),
        absolute(section, f"{name}: first to last", [times[-1] for times in rounds], "s"),
    ]
