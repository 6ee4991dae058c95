"""Where an attempt's time went, and how that is stored; pure.

It is stored as one short word of letters and ms, `b4873p12a18r`: what took no time is left out, and
so is the rest, which follows from the attempt's duration.
"""

from __future__ import annotations

import re
from typing import Final

from callbacks.model import PARTS_BEFORE, Answer, Timing, Waited
from callbacks.units import ms

_BEFORE: Final = "htbpws"
_STEPS: Final = "lckqa"
#: Over a connection that was open already, or a new one.
_REUSED: Final = {"r": True, "n": False}
_CONNECTIONS: Final = {reused: letter for letter, reused in _REUSED.items()} | {None: ""}
_WITHIN: Final = ("lookup", "connect", "tls", "request", "answer")
_FIELDS: Final = dict(zip(_BEFORE + _STEPS, (*PARTS_BEFORE, *_WITHIN), strict=True))
_PART: Final = re.compile(r"([a-z])([0-9]*)")


def before(waited: Waited, *, asked_ms: int, at_ms: int, late_ms: int) -> tuple[int, ...]:
    """How long it waited, by the first of `PARTS_BEFORE`, up to `worker`.

    The gate was asked at `asked_ms` and gave the instant `at_ms`, which the sender took `late_ms`
    after it. All but the hold is told apart by what came last: the batch that took it, its slot,
    the worker.
    """
    slot_ms = waited.slot_ms
    lane_ms = max(0, waited.claimed_ms - waited.due_ms)
    held_ms = min(waited.held_ms, lane_ms)
    turn_ms = min(waited.passed_ms, lane_ms - held_ms)
    gate_ms = max(0, at_ms - max(slot_ms, asked_ms))
    worker_ms = max(0, at_ms - slot_ms - gate_ms)
    return (
        held_ms,
        turn_ms,
        lane_ms - held_ms - turn_ms,
        max(0, slot_ms - waited.claimed_ms) + gate_ms,
        worker_ms + late_ms,
    )


def packed(waits: tuple[int, ...], answer: Answer) -> str:
    """All parts of one attempt as they are stored. `waits`: see `before`."""
    word = ""
    for letter, took in zip(_BEFORE, waits, strict=False):
        if took:
            word += f"{letter}{took}"
    if answer.resolver:
        word += f"s{ms(answer.resolver)}"
    if answer.steps is None:
        return word
    for letter, seconds in zip(_STEPS, answer.steps, strict=False):
        if seconds:
            word += f"{letter}{ms(seconds)}"
    return word + _CONNECTIONS[answer.steps.reused]


def unpacked(word: str, duration_ms: int) -> Timing:
    """Read what was packed; parts that only a newer release knows count as the rest."""
    found = _PART.findall(word)
    parts = {_FIELDS[letter]: int(took) for letter, took in found if letter in _FIELDS and took}
    within = sum(took for name, took in parts.items() if name in _WITHIN)
    waited = sum(parts.values()) - within
    parts["rest"] = max(0, duration_ms - within)
    reused = next((_REUSED[letter] for letter, _ in found if letter in _REUSED), None)
    return Timing(
        total=(waited + within + parts["rest"]) / 1000,
        waited=waited / 1000,
        reused=reused,
        **{name: took / 1000 for name, took in parts.items()},
    )


_TOLD: Final = {True: "over an open connection", False: "over a new connection"}


def told(timing: Timing) -> str:
    """In one line: the whole, and the parts that add up to it."""
    parts = [f"{name} {ms(took):,}" for name, took in timing.parts().items() if took]
    sums = f" = {' + '.join(parts)}" if parts else ""
    where = "" if timing.reused is None else f", {_TOLD[timing.reused]}"
    return f"{ms(timing.total):,} ms{sums}{where}"
