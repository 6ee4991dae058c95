"""Runs what was chosen, prints one table, and draws."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Final

from scripts.benchmark import enqueueing
from scripts.benchmark.contenders import UNPACED, prepare_bullmq
from scripts.benchmark.drains import Drains
from scripts.benchmark.growth import Growth
from scripts.benchmark.machine import machine
from scripts.benchmark.options import Options, parse
from scripts.benchmark.plots import draw
from scripts.benchmark.processes import python
from scripts.benchmark.receiver import Receiver
from scripts.benchmark.table import Row, figure, lines
from scripts.benchmark.timing import Timing

#: What the receiver has to do alone, so that it does not count.
ENOUGH_PER_S: Final = 20_000


def say(line: str) -> None:
    """What is going on; the table alone goes to standard output."""
    print(f"  {time.strftime('%H:%M:%S')}  {line}", file=sys.stderr, flush=True)


def receiver_row(receiver: Receiver, count: int) -> Row:
    """Show that the receiver does not count."""
    receiver.reset()
    before = receiver.stats()["cpu"]
    subprocess.run(
        python("-m", "scripts.benchmark.load", str(receiver.port), str(count)), check=True
    )
    stats = receiver.stats()
    rate, cpu = stats["count"] / stats["seconds"], (stats["cpu"] - before) / count * 1e6
    what = (
        f"{count:,} raw requests, {figure(cpu, 'µs')} of CPU each; it needs to do {ENOUGH_PER_S:,}"
    )
    section = "the receiver alone"
    return Row(section, what, figure(rate, "/s"), figure(ENOUGH_PER_S, "/s"), rate / ENOUGH_PER_S)


def main(options: Options) -> None:
    """Run what was chosen; whatever ends it, the table of what was measured is printed."""
    caption = machine()
    with_bullmq = prepare_bullmq(say)
    rows: list[Row] = []
    with Receiver() as receiver:
        drains = Drains(options, receiver, with_bullmq, say)
        growth, timing = Growth(options, say), Timing(options, receiver, say)
        subjects: dict[str, Callable[[], list[Row]]] = {
            "drain": drains.at_once,
            "slow": drains.slowly,
            "enqueue": lambda: enqueueing.rows(options, with_bullmq, say),
            "claim": growth.rows,
            "memory": growth.states,
            "idle": timing.idle,
            "gaps": timing.gaps,
            "latency": timing.latency,
            "curve": drains.along_processes,
        }
        try:
            rows.append(receiver_row(receiver, options.at_most(20_000, 100_000)))
            for name in (*options.subjects, *(["curve"] if options.curve else [])):
                say(name)
                rows += subjects[name]()
        finally:
            unpaced = " ".join(f"{name}={value}" for name, value in UNPACED.items())
            print("\n".join([caption, f"no pacing: {unpaced}", "", *lines(rows)]))
    if options.plot:
        for path in draw(caption, drains, growth, timing):
            say(f"drew {path}")


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # put everything away then, too
    main(parse())
