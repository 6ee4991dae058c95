"""The summary."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console
from rich.table import Table

from tests.soak.diary import Diary
from tests.soak.plan import Plan
from tests.soak.verdict import Seen, Verdict


def show(plan: Plan, seen: Seen, verdict: Verdict, diary: Diary, screen: Console) -> None:
    """Print the table, then what is wrong."""
    table = Table("what", "how many", title=f"Soak with seed {plan.seed}", title_justify="left")
    for what, figure in _rows(plan, seen, verdict, diary):
        table.add_row(what, figure)
    screen.print(table)
    for line in verdict.lines():
        screen.print(f"WRONG {line}", markup=False, soft_wrap=True)
    if verdict.wrong:
        screen.print(f"Not every promise was kept. The seed is {plan.seed}.")
    else:
        screen.print("Every promise was kept.")


def _rows(plan: Plan, seen: Seen, verdict: Verdict, diary: Diary) -> Iterator[tuple[str, str]]:
    took = sorted(verdict.took_s) or [0.0]
    yield "seconds in all", f"{diary.elapsed():.0f}"
    yield "callbacks planned", str(plan.count)
    yield "accepted", str(len(seen.accepted))
    for state, times in sorted(verdict.states.items()):
        yield state, str(times)
    for reason, times in verdict.died.most_common():
        yield f"dead because of {reason}", str(times)
    yield "dead although a 2xx was said, unsettled", str(verdict.dead_after_2xx)
    yield "requests", str(len(seen.requests))
    yield "most requests for one callback", str(verdict.most_requests)
    yield "attempts that crashed", str(verdict.crashes)
    for repeat, times in verdict.repeats.items():
        yield f"repeat: {repeat.value}", str(times)
    for name in ("retried", "throttled", "recovered", "stale", "duplicates"):
        yield f"counter {name}", str(seen.totals[name])
    yield "median time to the end", f"{took[len(took) // 2]:.1f} s"
    yield "99th percentile", f"{took[int(0.99 * (len(took) - 1))]:.1f} s"
    yield "longest time to the end", f"{took[-1]:.1f} s"
    for kind, times in sorted(diary.counts.items()):
        yield kind, str(times)
