"""Runs the model, or holds it against the real system, and prints one table."""

from __future__ import annotations

import json
import logging
import sys
import time
from dataclasses import asdict
from typing import Final

from scripts.simulation import billion, check, report
from scripts.simulation.options import Options, parse
from tests.support.processes import load

#: From this load per core on the real system is late for want of a processor.
_BUSY: Final = 1.5


def say(line: str) -> None:
    """Print progress on stderr; only figures go to stdout."""
    print(f"  {time.strftime('%H:%M:%S')}  {line}", file=sys.stderr, flush=True)


def main(options: Options) -> int:
    """Do what was asked for; returns the exit code."""
    return _check(options) if options.check else _billion(options)


def _check(options: Options) -> int:
    found = check.check(options.seed, say, options.only)
    if options.json:
        print(json.dumps([asdict(each) | {"holds": each.holds} for each in found], indent=2))
    else:
        print("\n".join(check.lines(found)))
    holds = all(each.holds for each in found)
    if not holds and load() > _BUSY:
        say(f"load per core {load():.1f}: repeat it when nothing else runs here")
    return 0 if holds else 1


def _billion(options: Options) -> int:
    plan = billion.Plan(
        a_day=options.a_day,
        length_s=options.seconds,
        workers=options.workers,
        threads=options.threads,
        cold=options.cold,
    )
    run = billion.run(plan, options.variables, options.seed, say)
    found = report.rows(run)
    if options.json:
        told = [row._asdict() for row in found]
        print(json.dumps({"seed": options.seed, "plan": asdict(plan), "figures": told}, indent=2))
    else:
        print("\n".join(report.lines(found)))
    return 0


if __name__ == "__main__":
    logging.getLogger("callbacks").setLevel(logging.CRITICAL)  # batches, recoveries, ...
    raise SystemExit(main(parse()))
