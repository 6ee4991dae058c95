"""Reads the faults of `callbacks receiver --fault`, such as `503:0.2`."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Final

from callbacks.cli.receiver.behaviours import limited
from callbacks.cli.receiver.exchange import Hit, Response

FORMAT: Final = (
    "a status (503, status:401), hang, drip or reset, each alone or with a share of the requests "
    "(503:0.2); a status above a rate (429:3/s); or slow:SECONDS"
)

_FAULT: Final = re.compile(
    r"(?:(?:status:)?(?P<status>[2-5]\d\d)|(?P<other>hang|drip|reset))"
    r"(?::(?:(?P<share>0?\.\d+|0|1|1\.0)|(?P<rate>\d{1,6}(?:\.\d+)?)/s))?"
)
_SLOW: Final = re.compile(r"slow:(\d{1,4}(?:\.\d+)?)")
_DRIP_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: its text, the answer it gives to a hit (None: it spares this one), its delay."""

    text: str
    answer: Callable[[Hit], Response | None] = lambda _hit: None
    delay_s: float = 0.0


def read_fault(text: str, *, chance: Callable[[], float] = random.random) -> Fault:
    """Parse a fault; `chance` returns 0 up to 1. Raises ValueError, which says what is allowed."""
    if slow := _SLOW.fullmatch(text):
        return Fault(text, delay_s=float(slow[1]))
    found = _FAULT.fullmatch(text)
    if found is None or (found["rate"] and not (found["status"] and float(found["rate"]))):
        raise ValueError(f"{text!r} is not a fault; expected {FORMAT}")
    answer = _answer(found["status"] or found["other"])
    if found["rate"]:
        admit = limited(float(found["rate"]))
        return Fault(text, lambda hit: None if admit(hit).status == 200 else answer())
    share = float(found["share"] or 1)
    return Fault(text, lambda _hit: answer() if chance() < share else None)


def _answer(kind: str) -> Callable[[], Response]:
    if kind == "hang":
        return lambda: Response(until=Future())  # which nobody will ever end
    if kind == "drip":
        return lambda: Response(drip_s=_DRIP_S)
    if kind == "reset":
        return lambda: Response(reset=True)
    retry_after = (("retry-after", "1"),) if kind == "429" else ()
    reply = Response(int(kind), retry_after)
    return lambda: reply


def first_answer(faults: Sequence[Fault], hit: Hit) -> tuple[Response, str] | None:
    """The answer of the first fault that does not spare this hit, with the fault's text."""
    for fault in faults:
        reply = fault.answer(hit)
        if reply is not None:
            return reply, fault.text
    return None
