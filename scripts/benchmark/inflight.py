"""A thousand requests in flight to a receiver that takes its time: threads, greenlets, others."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from scripts.benchmark.contenders import Contender, bullmq, green_ceiling, ours
from scripts.benchmark.drain import Drained, drain
from scripts.benchmark.options import Options, Say
from scripts.benchmark.receiver import ReceiverProcess
from scripts.benchmark.table import Row, compared, figure

#: In flight in each process, in greenlets or threads.
MANY: Final = 500
#: How long the receiver takes, in a quick run only the one whose memory is shown, too.
_DELAYS_S: Final = (0.1, 0.5, 1.0)
_QUICK_S: Final = 0.5
_MEMORY: Final = (("rss_mb", "RSS"), ("pss_mb", "PSS"))

#: By the receiver's delay and the contender's name: what each round came to.
Measured = dict[float, dict[str, list[Drained]]]


class InFlight:
    """Ours in greenlets beside everybody else; keeps what the chart needs."""

    def __init__(
        self, options: Options, receiver: ReceiverProcess, with_bullmq: bool, say: Say
    ) -> None:
        self._options, self._receiver, self._say = options, receiver, say
        o = options
        many, few = o.processes * MANY, o.processes * o.threads
        #: Who is measured, with how many in flight each has.
        self._places: list[tuple[Contender, int]] = [
            (ours(o.processes, MANY, kind="greenlets", short="callbacks, greenlets"), many),
            (ours(o.processes, MANY, short=f"callbacks, {MANY} threads"), many),
            (ours(o.processes, o.threads, short=f"callbacks, {o.threads} threads"), few),
            *([(bullmq(o.processes, MANY), many)] if with_bullmq else []),
            (green_ceiling(o.processes, MANY), many),
        ]
        self.contenders = [one for one, _ in self._places]
        self.measured: Measured = {}

    def rows(self) -> list[Row]:
        """The rate and the workers' CPU with each delay, and once the memory."""
        o = self._options
        delays = (_QUICK_S,) if o.quick else _DELAYS_S
        self.measured = {delay_s: {one.name: [] for one in self.contenders} for delay_s in delays}
        for _ in range(o.rounds):
            for delay_s in delays:
                for one, places in self._places:
                    done = self._once(one, places, delay_s)
                    self.measured[delay_s][one.name].append(done)
        return [*self._rates(), *self._memory()]

    def _once(self, contender: Contender, places: int, delay_s: float) -> Drained:
        count = self._count(places, delay_s)
        server = self._options.new_server()
        done = drain(contender, self._receiver, server, count, delay_s=delay_s)
        self._say(f"{contender.name}, {delay_s:g} s: {figure(done.per_s, '/s')}")
        return done

    def _count(self, places: int, delay_s: float) -> int:
        """So many that a drain lasts some seconds, if the processor does not limit it."""
        span_s = self._options.at_most(2, 5)
        return min(self._options.at_most(2_000, 6_000), round(places / delay_s * span_s))

    def _rates(self) -> Iterator[Row]:
        mine, *others = self.contenders
        for delay_s in self.measured:
            section = f"in flight, no pacing, the receiver takes {delay_s:g} s; this: {mine.name}"
            for other in others:
                yield self._row(section, other.name, delay_s, other, ("per_s", "/s"))
            for other in others:
                what = f"CPU of the workers for each callback, {other.short}"
                yield self._row(section, what, delay_s, other, ("worker_us", "µs"))

    def _memory(self) -> Iterator[Row]:
        """At the end of the drains with one delay, Dramatiq's parent process included."""
        mine, *others = self.contenders
        section = f"memory of all worker processes then ({_QUICK_S:g} s); this: {mine.name}"
        for name, kind in _MEMORY:
            for other in others:
                yield self._row(section, f"{kind}, {other.name}", _QUICK_S, other, (name, "MB"))

    def _row(
        self, section: str, what: str, delay_s: float, other: Contender, figure: tuple[str, str]
    ) -> Row:
        """Ours in greenlets beside another, by a field of `Drained`, with its unit."""
        measured, (name, unit) = self.measured[delay_s], figure
        these, those = (
            [getattr(done, name) for done in measured[one.name]]
            for one in (self.contenders[0], other)
        )
        return compared(section, what, these, those, unit)
