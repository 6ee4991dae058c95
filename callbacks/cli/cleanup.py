"""`callbacks cleanup`: reclaim callbacks past their lease."""

from __future__ import annotations

import click

from callbacks import admin
from callbacks.cli.command import json_option, parts, print_json, say
from callbacks.text import many


@click.command()
@click.option(
    "--expired",
    is_flag=True,
    help="Also expire what is too old, even if a jump of Redis' clock has suspended expiry.",
)
@json_option
def cleanup(expired: bool, as_json: bool) -> None:
    """Reclaim callbacks past their lease, now."""
    parts()
    done = admin.cleanup(expired=expired)
    if as_json:
        print_json(admin.document(done))
        return
    others = (
        f", {done.dead:,} dead, {done.cancelled:,} cancelled" if done.dead or done.cancelled else ""
    )
    others += "" if done.expired is None else f", {done.expired:,} expired"
    say(f"{many(done.recovered, 'callback')} recovered{others}")
