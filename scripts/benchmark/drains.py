"""How fast a backlog goes out, beside the others, and what each callback costs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median
from typing import Final

from scripts.benchmark.contenders import Contender, bullmq, ceiling, celery, ours
from scripts.benchmark.drain import Drained, drain
from scripts.benchmark.options import Options, Say
from scripts.benchmark.receiver import Receiver
from scripts.benchmark.table import Row, compared, figure

Measured = dict[str, list[Drained]]

SLOW_S: Final = 0.1
AT_ONCE: Final = "drain, no pacing, the receiver answers at once"
SLOWLY: Final = "drain, no pacing, the receiver takes 100 ms"
_TRIAL: Final = 1_000
#: With answers at once few threads do best, for one Python process has one lock.
_FEW: Final = 8


class Drains:
    """Both drains, and the curve; keeps what the charts need."""

    def __init__(self, options: Options, receiver: Receiver, with_bullmq: bool, say: Say) -> None:
        self._options, self._receiver, self._say = options, receiver, say
        self._with_bullmq = with_bullmq
        self.measured: dict[str, tuple[list[Contender], Measured]] = {}
        self.curve: list[tuple[int, float]] = []

    def at_once(self) -> list[Row]:
        """With a receiver that answers at once; what a callback costs is read here."""
        o = self._options
        pool = self._celery_pool([("prefork", 1), ("threads", _FEW), ("gevent", o.threads)], 0)
        rows = self._compare(AT_ONCE, self._contenders(*pool, loops=1), o.count, 0)
        return rows + list(self._costs())

    def slowly(self) -> list[Row]:
        """With a receiver that takes 100 ms, and as many in flight for everybody.

        Prefork is left out: it would need a process for each request in flight.
        """
        o = self._options
        pool = self._celery_pool([("threads", o.threads), ("gevent", o.threads)], SLOW_S)
        return self._compare(
            SLOWLY, self._contenders(*pool, loops=o.threads), o.at_most(1_000, 4_000), SLOW_S
        )

    def along_processes(self) -> list[Row]:
        """Ours alone with 1, 2 and 4 processes, answers at once."""
        rows, base, o = [], 0.0, self._options
        for processes in (1, 2, 4):
            contender = ours(processes, o.threads)
            rate = median(self._once(contender, o.count, 0).per_s for _ in range(o.rounds))
            base = base or rate
            self.curve.append((processes, rate))
            what = f"{contender.name}, beside 1 process"
            rows.append(Row("curve", what, figure(rate, "/s"), figure(base, "/s"), rate / base))
        return rows

    def _contenders(self, pool: str, each: int, *, loops: int) -> list[Contender]:
        o = self._options
        found = [ours(o.processes, o.threads), celery(pool, o.processes, each)]
        if not o.quick:
            found.append(celery(pool, o.processes, each, by_hand=True))
        if self._with_bullmq:
            found.append(bullmq(o.processes, o.threads))
        return [*found, ceiling(o.processes, loops)]

    def _celery_pool(self, known: Sequence[tuple[str, int]], delay_s: float) -> tuple[str, int]:
        """The pool to compare with: as chosen, or the fastest in one short trial of each."""
        chosen = [one for one in known if one[0] == self._options.celery_pool]
        if chosen or self._options.quick:
            return (chosen or [one for one in known if one[0] == "threads"])[0]
        trials = {}
        for pool, each in known:
            contender = celery(pool, self._options.processes, each)
            trials[pool, each] = self._once(contender, _TRIAL, delay_s).per_s
        return max(trials, key=lambda one: trials[one])

    def _once(self, contender: Contender, count: int, delay_s: float) -> Drained:
        done = drain(contender, self._receiver, count, delay_s=delay_s)
        self._say(f"{contender.name}: {figure(done.per_s, '/s')}")
        return done

    def _compare(
        self, section: str, contenders: list[Contender], count: int, delay_s: float
    ) -> list[Row]:
        """Run all in turn, and that again: A B C, A B C, A B C."""
        measured: Measured = {one.name: [] for one in contenders}
        for _ in range(self._options.rounds):
            for one in contenders:
                measured[one.name].append(self._once(one, count, delay_s))
        self.measured[section] = (contenders, measured)
        rates = {name: [done.per_s for done in all] for name, all in measured.items()}
        mine, *others = contenders
        titled = f"{section}; this: {mine.name}; {count:,} callbacks"
        return [
            compared(titled, one.name, rates[mine.name], rates[one.name], "/s") for one in others
        ]

    def _costs(self) -> Iterator[Row]:
        contenders, measured = self.measured[AT_ONCE]
        mine, *others = contenders
        section = "each callback of that drain"
        for name, what, unit in (
            ("worker_us", "CPU of the worker processes", "µs"),
            ("redis_us", "CPU of Redis", "µs"),
            ("commands", "Redis commands, those in scripts too", ""),
        ):
            these = [getattr(done, name) for done in measured[mine.name]]
            for other in others:
                those = [getattr(done, name) for done in measured[other.name]]
                if name == "worker_us" or other.produce:
                    yield compared(section, f"{what}, {other.short}", these, those, unit)
        scripts = median(done.scripts for done in measured[mine.name])
        yield Row(section, "Redis scripts called", figure(scripts, ""))
