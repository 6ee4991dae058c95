"""Runs the selected measurements, prints one table, and draws charts."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Final

from scripts.benchmark import enqueueing
from scripts.benchmark.alone import marked, rates, row
from scripts.benchmark.contenders import UNPACED, prepare_bullmq
from scripts.benchmark.drains import Drains
from scripts.benchmark.growth import Growth
from scripts.benchmark.inflight import InFlight
from scripts.benchmark.machine import machine
from scripts.benchmark.options import SUBJECTS, Options, parse
from scripts.benchmark.pacing import Pacing
from scripts.benchmark.plots import TABLE, draw
from scripts.benchmark.receiver import ReceiverProcess
from scripts.benchmark.server import choose, told
from scripts.benchmark.table import Row, lines
from scripts.benchmark.timing import Timing

#: Where the receiver counts.
_DRAINS: Final = ("drain", "slow", "flight", "pinned", "curve")


def say(line: str) -> None:
    """Print progress on stderr; only the table goes to stdout."""
    print(f"  {time.strftime('%H:%M:%S')}  {line}", file=sys.stderr, flush=True)


def main(options: Options) -> None:
    """Run the selected measurements; prints what was measured even if it is interrupted."""
    started = time.monotonic()
    caption = f"{machine()}; {told(choose(options.server))}"
    with_bullmq = prepare_bullmq(say)
    rows: list[Row] = []
    with ReceiverProcess() as receiver:
        drains = Drains(options, receiver, with_bullmq, say)
        flight = InFlight(options, receiver, with_bullmq, say)
        growth, timing = Growth(options, say), Timing(options, receiver, say)
        pacing = Pacing(options, receiver, timing, say)
        subjects: dict[str, Callable[[], list[Row]]] = {
            "drain": drains.at_once,
            "slow": drains.slowly,
            "flight": flight.rows,
            "pinned": drains.pinned,
            "enqueue": lambda: enqueueing.rows(options, with_bullmq, say),
            "claim": growth.rows,
            "memory": growth.states,
            "idle": timing.idle,
            "gaps": timing.gaps,
            "pacing": pacing.rows,
            "latency": timing.latency,
            "curve": drains.along_processes,
        }
        try:
            requests = options.at_most(20_000, 100_000)
            per_s = rates(receiver, requests, options.rounds)
            rows.append(row(per_s, requests))
            for name in (*options.subjects, *(["curve"] if options.curve else [])):
                say(name)
                found = subjects[name]()
                rows += marked(found, median(per_s)) if name in _DRAINS else found
        finally:
            unpaced = " ".join(f"{name}={value}" for name, value in UNPACED.items())
            table = "\n".join([caption, f"no pacing: {unpaced}", "", *lines(rows)])
            print(table)
            print(f"\n{(time.monotonic() - started) / 60:.1f} minutes")
    if options.plot:
        if options.subjects == SUBJECTS:
            TABLE.write_text(f"{table}\n")  # beside the charts: who quotes them quotes one run
            say(f"wrote {TABLE}")
        for path in draw(caption, drains, flight, growth, pacing):
            say(f"drew {path}")


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # clean up then, too
    main(parse())
