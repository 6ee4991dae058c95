"""The command line options."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

_VARIABLE: Final = "CALLBACKS_"


@dataclass(frozen=True, slots=True)
class Options:
    """The options given."""

    check: bool
    only: tuple[str, ...]
    seed: int
    json: bool
    cold: bool
    a_day: int
    seconds: int
    workers: int
    threads: int
    variables: dict[str, str]


def parse(arguments: Sequence[str] | None = None) -> Options:
    """Parse the command line; exits if it is wrong."""
    parser = argparse.ArgumentParser(
        prog="scripts/simulate",
        description="Simulates the whole system: a stretch of a day with a billion callbacks.",
    )
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "--check", action="store_true", help="compare small runs with the real system; 1 if not so"
    )
    group.add_argument(
        "--billion", action="store_true", help="1,000 workers, 64 shards (this is the default)"
    )
    parser.add_argument("--only", default="", metavar="A,B", help="of the scenarios of --check")
    parser.add_argument("--seed", type=int, default=1, help="the same seed, the same run")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--cold", action="store_true", help="no destination has answered before")
    parser.add_argument(
        "--a-day", type=_whole, default=10**9, metavar="N", help="callbacks (1,000,000,000)"
    )
    parser.add_argument("--seconds", type=_whole, default=120, help="of simulated time (120)")
    parser.add_argument("--workers", type=_whole, default=1_000, help="processes (1,000)")
    parser.add_argument("--threads", type=_whole, default=16, help="of each process (16)")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        type=_variable,
        metavar="NAME=VALUE",
        help="a setting, such as batch_size=100",
    )
    given = parser.parse_args(arguments)
    return Options(
        check=given.check,
        only=tuple(filter(None, given.only.split(","))),
        seed=given.seed,
        json=given.json,
        cold=given.cold,
        a_day=given.a_day,
        seconds=given.seconds,
        workers=given.workers,
        threads=given.threads,
        variables=dict(given.set),
    )


def _whole(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text}, expected a whole number from 1")
    return number


def _variable(text: str) -> tuple[str, str]:
    name, found, value = text.partition("=")
    if not (name and found):
        raise argparse.ArgumentTypeError(f"{text!r}, expected NAME=VALUE")
    return _VARIABLE + name.upper().removeprefix(_VARIABLE), value
