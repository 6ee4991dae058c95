"""The command line options, and how much is measured for them."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from scripts.benchmark.server import WAYS, choose
from tests.support.server import Server

SUBJECTS: Final = (
    "drain",
    "slow",
    "flight",
    "pinned",
    "enqueue",
    "claim",
    "memory",
    "idle",
    "gaps",
    "pacing",
    "latency",
)


@dataclass(frozen=True, slots=True)
class Options:
    """The options given."""

    subjects: tuple[str, ...]
    quick: bool
    plot: bool
    curve: bool
    server: str
    processes: int
    threads: int
    celery_pool: str
    count: int

    @property
    def rounds(self) -> int:
        """How often each thing is measured."""
        return 1 if self.quick else 3

    def new_server(self) -> Server:
        """A Redis of the selected kind, not started yet."""
        return choose(self.server).new()

    def at_most(self, quick: int, full: int) -> int:
        """The number for this kind of run."""
        return quick if self.quick else full


def parse(arguments: Sequence[str] | None = None) -> Options:
    """Parse the command line; exits if it is wrong."""
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        description="Measures this project beside others on this machine, and prints one table.",
    )
    parser.add_argument("--quick", action="store_true", help="under two minutes: fewer, one round")
    parser.add_argument(
        "--all", action="store_true", help="the whole table, --curve and --plot: under half an hour"
    )
    parser.add_argument(
        "--only", type=_subjects, default=SUBJECTS, metavar="A,B", help=f"of {','.join(SUBJECTS)}"
    )
    parser.add_argument("--curve", action="store_true", help="the drain with 1, 2, 4 processes too")
    parser.add_argument(
        "--plot",
        action="store_true",
        help="write charts into docs/, of a whole run the table",
    )
    parser.add_argument(
        "--server",
        choices=tuple(WAYS),
        default="wheel",
        help="wheel: the wheel's Valkey with mimalloc; installed: redis-server from PATH",
    )
    parser.add_argument("--processes", type=_whole, default=2, help="of each (default 2)")
    parser.add_argument("--threads", type=_whole, default=64, help="of each process (default 64)")
    parser.add_argument("--count", type=_whole, default=5_000, help="of callbacks in a drain")
    parser.add_argument(
        "--celery",
        choices=["best", "prefork", "threads", "gevent"],
        default="best",
        help="its pool; best: the fastest in a short trial",
    )
    given = parser.parse_args(arguments)
    return Options(
        subjects=given.only,
        quick=given.quick,
        plot=given.plot or given.all,
        curve=given.curve or given.all,
        server=given.server,
        processes=given.processes,
        threads=given.threads,
        celery_pool=given.celery,
        count=min(given.count, 1_000) if given.quick else given.count,
    )


def _subjects(text: str) -> tuple[str, ...]:
    chosen = tuple(text.split(","))
    unknown = set(chosen) - set(SUBJECTS)
    if unknown:
        raise argparse.ArgumentTypeError(f"{', '.join(sorted(unknown))}: none of the subjects")
    return chosen


def _whole(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text}: expected 1 or more")
    return value


Say = Callable[[str], None]
