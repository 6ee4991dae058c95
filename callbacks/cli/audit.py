"""`callbacks audit`: compare every structure in Redis with every other."""

from __future__ import annotations

import click

from callbacks import admin
from callbacks.cli.command import (
    Failure,
    json_option,
    parts,
    print_json,
    reason_option,
    say,
)
from callbacks.text import many


@click.command()
@click.option("--repair", is_flag=True, help="Fix what can be fixed, and print what was done.")
@reason_option
@json_option
def audit(repair: bool, why: str, as_json: bool) -> None:
    """Compare all structures with each other and with the totals.

    Prints one line per problem, and exits with 1 if there are any. `--repair` drops nothing
    that could still be sent, and may run while workers are running.
    """
    parts()
    found = admin.audit(repair=repair, why=why, tell=_quiet if as_json else _print)
    if as_json:
        shown = found.repaired if repair else found.problems
        print_json([str(problem) for problem in shown])
    if not found.ok:
        raise Failure(f"the books do not balance: {many(len(found.problems), 'problem')}")
    if not as_json:
        say(_balance(len(found.repaired)))


def _print(problem: admin.Problem) -> None:
    say(str(problem))


def _quiet(_problem: admin.Problem) -> None:
    """Print nothing yet: one JSON document comes at the end."""


def _balance(repaired: int) -> str:
    now = admin.status()
    return (
        f"the books balance: {now.queued:,} queued, {now.processing:,} processing, "
        f"{now.sent_records:,} sent or cancelled, {now.dead:,} dead, and the totals"
        + (f"; {many(repaired, 'problem')} repaired" if repaired else "")
    )
