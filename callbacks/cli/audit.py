"""`callbacks audit`: compare every structure in Redis with every other."""

from __future__ import annotations

from collections.abc import Iterable

import click

from callbacks.batcher.audit import audit as find_problems
from callbacks.batcher.audit import repair as put_right
from callbacks.batcher.inspector import Inspector, overview
from callbacks.batcher.journal import entry_of
from callbacks.cli.command import Failure, json_option, parts, print_json_array, say, who
from callbacks.text import many


@click.command()
@click.option("--repair", is_flag=True, help="Fix what can be fixed, and print what was done.")
@json_option
def audit(repair: bool, as_json: bool) -> None:
    """Compare all structures with each other and with the totals.

    Prints one line per problem, and exits with 1 if there are any. `--repair` drops nothing
    that could still be sent, and may run while workers are running.
    """
    batcher = parts().batcher
    lines = (f"{finding}; {done}" for finding, done in put_right(batcher)) if repair else ()
    mended = _print_lines(lines, as_json) if repair else 0
    if mended:
        batcher.journal(entry_of("repair", "all", who=who(), count=mended))
    left = find_problems(Inspector(batcher.scripts))
    count = sum(1 for _ in left) if repair and as_json else _print_lines(left, as_json)
    if count:
        raise Failure(f"the books do not balance: {many(count, 'problem')}")
    if not as_json:
        o = overview(batcher.scripts)
        say(
            f"the books balance: {o.queued:,} queued, {o.processing:,} processing, "
            f"{o.sent_records:,} sent or cancelled, {o.dead:,} dead, and the totals"
            + (f"; {many(mended, 'problem')} repaired" if repair else "")
        )


def _print_lines(lines: Iterable[str], as_json: bool) -> int:
    if as_json:
        return print_json_array(lines)
    count = 0
    for line in lines:
        count += 1
        say(line)
    return count
