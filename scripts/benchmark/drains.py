"""How fast a backlog goes out, beside the others, and what each callback costs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from statistics import median
from typing import Final

from scripts.benchmark.contenders import UNPACED, Contender, bullmq, ceiling, celery, ours
from scripts.benchmark.drain import Drained, drain
from scripts.benchmark.options import Options, Say
from scripts.benchmark.receiver import ReceiverProcess
from scripts.benchmark.table import Row, absolute, compared, figure

Measured = dict[str, list[Drained]]
#: Celery's pools to choose from, each with its requests in flight a process.
Pools = Sequence[tuple[str, int]]

SLOW_S: Final = 0.1
AT_ONCE: Final = "drain, no pacing, the receiver answers at once"
SLOWLY: Final = "drain, no pacing, the receiver takes 100 ms"
PINNED: Final = "drain, each worker process kept on one core, beside the same roaming"
_ANSWERS: Final = {"at once": 0.0, "after 100 ms": SLOW_S}
_TRIAL: Final = 1_000
#: With answers at once few threads do best, for one Python process has one lock.
_FEW: Final = 8
#: What ours does best with then; the 64 of the Procfile are for receivers that take their time.
_FEWER: Final = 32
#: Nothing is tried in a quick run; this one mostly wins.
_QUICK_POOL: Final = "threads"
_CURVE: Final = (1, 2, 4)
#: What of `Drained` is shown as a callback's cost, what it is called, and its unit.
_COSTS: Final = (
    ("worker_us", "CPU of the worker processes", "µs"),
    ("redis_us", "CPU of Redis", "µs"),
    ("commands", "Redis commands, those in scripts too", ""),
)


class Drains:
    """Both drains, and the curve; keeps what the charts need."""

    def __init__(
        self, options: Options, receiver: ReceiverProcess, with_bullmq: bool, say: Say
    ) -> None:
        self._options, self._receiver, self._say = options, receiver, say
        self._with_bullmq = with_bullmq
        self.measured: dict[str, tuple[list[Contender], Measured]] = {}
        self.curve: list[tuple[int, float]] = []

    def at_once(self) -> list[Row]:
        """With a receiver that answers at once; what a callback costs is read here."""
        o = self._options
        pools: Pools = [("prefork", 1), ("threads", _FEW), ("gevent", o.threads)]
        contenders = self._contenders(pools, 0, loops=1)
        if o.quick:
            return self._compare(AT_ONCE, contenders, o.count, 0) + list(self._costs())
        fewer = ours(o.processes, _FEWER, short=f"callbacks, {_FEWER} threads")
        rows = self._compare(AT_ONCE, [*contenders, fewer], o.count, 0)
        rows.append(self._instead(fewer, contenders[2], rows[0].section))
        return rows + list(self._costs())

    def _instead(self, mine: Contender, other: Contender, section: str) -> Row:
        """The comparison with another where ours runs with fewer threads."""
        _, measured = self.measured[AT_ONCE]
        these, those = ([done.per_s for done in measured[one.name]] for one in (mine, other))
        return compared(section, f"{mine.name} instead, beside {other.short}", these, those, "/s")

    def slowly(self) -> list[Row]:
        """With a receiver that takes 100 ms, and as many in flight for everybody.

        Prefork is left out: it would need a process for each request in flight.
        """
        o = self._options
        pools: Pools = [("threads", o.threads), ("gevent", o.threads)]
        contenders = self._contenders(pools, SLOW_S, loops=o.threads)
        rows = self._compare(SLOWLY, contenders, o.at_most(1_000, 4_000), SLOW_S)
        return rows + list(self._own_costs(SLOWLY, "each callback of that slow drain"))

    def along_processes(self) -> list[Row]:
        """Ours alone with 1, 2 and 4 processes, answers at once, in turn."""
        o = self._options
        contenders = {processes: ours(processes, o.threads) for processes in _CURVE}
        done: dict[int, list[Drained]] = {processes: [] for processes in _CURVE}
        for _ in range(o.rounds):
            for processes, contender in contenders.items():
                done[processes].append(self._once(contender, o.count, 0))
        rates = {processes: [one.per_s for one in all] for processes, all in done.items()}
        self.curve = [(processes, median(all)) for processes, all in rates.items()]
        section, first = "drain by the number of worker processes", _CURVE[0]
        rows = []
        for processes, all in done.items():
            name = f"{processes} x {o.threads} threads"
            what = f"{name}, beside {first} process"
            rows.append(compared(section, what, rates[processes], rates[first], "/s"))
            cost = [one.worker_us for one in all]
            rows.append(absolute(section, f"{name}: CPU of the workers, each", cost, "µs"))
            busy = [one.worker_us * one.per_s / 1e6 for one in all]
            rows.append(absolute(section, f"{name}: cores that they keep busy", busy, ""))
        return rows

    def pinned(self) -> list[Row]:
        """Ours with each process kept on one core, beside ours that roams, in turn."""
        o = self._options
        both = [
            replace(
                ours(o.processes, o.threads, UNPACED | {"CALLBACKS_PIN_CORES": wanted}), name=name
            )
            for wanted, name in (("true", "pinned"), ("false", "roaming"))
        ]
        rows = []
        for told, delay_s in {"at once": 0.0}.items() if o.quick else _ANSWERS.items():
            done: dict[str, list[Drained]] = {one.name: [] for one in both}
            for _ in range(o.rounds):
                for one in both:
                    done[one.name].append(self._once(one, o.at_most(1_000, 4_000), delay_s))
            for name, what, unit in (("per_s", "rate", "/s"), _COSTS[0]):
                these, those = ([getattr(each, name) for each in all] for all in done.values())
                rows.append(compared(PINNED, f"answers {told}: {what}", these, those, unit))
        return rows

    def _contenders(self, pools: Pools, delay_s: float, *, loops: int) -> list[Contender]:
        """Everybody; a quick run leaves out the bare Celery, which does less than the job."""
        o = self._options
        found = [ours(o.processes, o.threads)]
        if not o.quick:
            found.append(self._celery(pools, delay_s, by_hand=False))
        found.append(self._celery(pools, delay_s, by_hand=True))
        if self._with_bullmq:
            found.append(bullmq(o.processes, o.threads))
        return [*found, ceiling(o.processes, loops)]

    def _celery(self, pools: Pools, delay_s: float, *, by_hand: bool) -> Contender:
        """Celery with the pool that was chosen, or the one fastest in a short trial of this job."""
        o = self._options
        all = {pool: celery(pool, o.processes, each, by_hand=by_hand) for pool, each in pools}
        wanted = _QUICK_POOL if o.quick and o.celery_pool == "best" else o.celery_pool
        if wanted in all:
            return all[wanted]
        trials = {pool: self._once(one, _TRIAL, delay_s).per_s for pool, one in all.items()}
        return all[max(trials, key=lambda pool: trials[pool])]

    def _once(self, contender: Contender, count: int, delay_s: float) -> Drained:
        server = self._options.new_server()
        done = drain(contender, self._receiver, server, count, delay_s=delay_s)
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
        """What each callback of the drain costs, beside the others."""
        contenders, measured = self.measured[AT_ONCE]
        mine, *others = contenders
        section = "each callback of that drain"
        for name, what, unit in _COSTS:
            these = [getattr(done, name) for done in measured[mine.name]]
            for other in others:
                those = [getattr(done, name) for done in measured[other.name]]
                if name == "worker_us" or other.produce:
                    yield compared(section, f"{what}, {other.short}", these, those, unit)
        yield from self._scripts(section, measured[mine.name])

    def _own_costs(self, drain: str, section: str) -> Iterator[Row]:
        """The same of ours alone."""
        contenders, measured = self.measured[drain]
        mine = measured[contenders[0].name]
        for name, what, unit in _COSTS:
            yield absolute(section, what, [getattr(done, name) for done in mine], unit)
        yield from self._scripts(section, mine)

    @staticmethod
    def _scripts(section: str, mine: list[Drained]) -> Iterator[Row]:
        """Redis' own account of ours, from INFO commandstats."""
        yield absolute(section, "Redis scripts called", [done.scripts for done in mine], "")
        what = "time in them, their commands included"
        yield absolute(section, what, [done.script_us for done in mine], "µs")
