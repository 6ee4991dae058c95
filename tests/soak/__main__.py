"""`scripts/soak`: see its `--help`."""

from __future__ import annotations

import secrets
import sys
import tempfile
from pathlib import Path

import click
from rich.console import Console

from callbacks.cli.processes import ended_by_signals
from tests.soak.diary import Diary
from tests.soak.plan import Faults, make_plan
from tests.soak.report import show
from tests.soak.run import run
from tests.soak.verdict import judge


@click.command()
@click.option("--seed", type=int, help="Of the plan of faults; by default a random one.")
@click.option("--minutes", type=click.FloatRange(0.2), default=10.0, show_default=True)
@click.option("--count", type=click.IntRange(1), help="Callbacks; by default 2,000 a minute.")
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="For the logs; by default a new temporary one. It stays.",
)
@click.option("--cluster", is_flag=True, help="On a cluster with several shards, and its faults.")
@click.option("--only-cluster", is_flag=True, help="With --cluster: only the cluster's own faults.")
def soak(
    seed: int | None,
    minutes: float,
    count: int | None,
    folder: Path | None,
    *,
    cluster: bool,
    only_cluster: bool,
) -> None:
    """Send many callbacks while everything involved is killed, stopped and restarted.

    Everything runs on this machine, with its own Redis or cluster. Exits 0 if every promise was
    kept, else 1, and prints what is wrong.
    """
    if only_cluster and not cluster:
        raise click.UsageError("--only-cluster needs --cluster")
    if seed is None:
        seed = secrets.randbelow(2**31)
    if folder is None:
        folder = Path(tempfile.mkdtemp(prefix=f"callbacks-soak-{seed}-"))
    folder.mkdir(parents=True, exist_ok=True)
    which = Faults.CLUSTER if cluster else Faults.ONE_REDIS
    which = Faults.CLUSTER_ONLY if only_cluster else which
    plan = make_plan(seed, minutes=minutes, count=count, which=which)
    diary = Diary(folder / "soak.log")
    screen = Console(width=100)
    screen.print(
        f"Seed {seed}: {plan.count} callbacks and {len(plan.faults)} faults in {minutes:g} min.\n"
        f"Faults and their times: {diary.path}",
        soft_wrap=True,
    )
    with ended_by_signals():
        seen = run(plan, folder, diary, is_cluster=cluster)
    verdict = judge(seen)
    show(plan, seen, verdict, diary, screen)
    sys.exit(1 if verdict.wrong else 0)


soak()
