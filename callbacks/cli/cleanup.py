"""`callbacks cleanup`: reclaim callbacks past their lease."""

from __future__ import annotations

import random

import click

from callbacks.batcher.store import Batcher
from callbacks.cli.command import json_option, parts, print_json, say
from callbacks.model import Recovered
from callbacks.text import many
from callbacks.worker.duties import expire_once, recover_once


@click.command()
@click.option(
    "--expired",
    is_flag=True,
    help="Also expire what is too old, even if a jump of Redis' clock has suspended expiry.",
)
@json_option
def cleanup(expired: bool, as_json: bool) -> None:
    """Reclaim callbacks past their lease, now."""
    batcher = parts().batcher
    ended = _expire(batcher) if expired else 0
    recovered = dead = cancelled = 0
    while (done := recover_once(batcher, chance=_chance())) != Recovered(0, 0, 0):
        recovered += done.recovered
        dead += done.dead
        cancelled += done.cancelled
    if as_json:
        document = {"recovered": recovered, "dead": dead, "cancelled": cancelled}
        print_json(document | ({"expired": ended} if expired else {}))
        return
    others = f", {dead:,} dead, {cancelled:,} cancelled" if dead or cancelled else ""
    others += f", {ended:,} expired" if expired else ""
    say(f"{many(recovered, 'callback')} recovered{others}")


def _expire(batcher: Batcher) -> int:
    batcher.unhold()
    total = 0
    while some := expire_once(batcher):
        total += some
    return total


def _chance() -> float:
    return random.random()  # noqa: S311 - spreads load
