"""`callbacks demo`: runs all of callbacks on this machine."""

from __future__ import annotations

import click

from callbacks.cli.command import Failure, console, json_option, print_json
from callbacks.cli.demo.run import run_demo


@click.command()
@click.option(
    "--count",
    type=click.IntRange(1, 10_000),
    default=200,
    show_default=True,
    help="How many callbacks to enqueue.",
)
@json_option
def demo(count: int, as_json: bool) -> None:
    """Run the whole thing on this machine and check its numbers.

    Starts a Redis-compatible server in a temporary folder, receivers, two workers and the
    scheduler, and ends by itself: 200 callbacks take less than a minute.
    """
    summary = run_demo(count, console(err=as_json))
    if as_json:
        print_json(summary.document())
    if summary.wrong:
        raise Failure(f"the numbers do not add up: {'; '.join(summary.wrong)}")
