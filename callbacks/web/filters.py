"""How values are shown in the templates."""

from __future__ import annotations

import time
from collections.abc import Mapping

from flask import Flask

from callbacks.policy.timing import told
from callbacks.text import age, distance, many, moment, when

now_s = time.time


def register(app: Flask) -> None:
    """Make these available in every template."""
    for each in (ago, by_reason, clock, thousands, told, took, waited, age, many, moment):
        app.add_template_filter(each)
    app.add_template_filter(lambda at_s: when(at_s, now_s()), "when")


def thousands(number: int) -> str:
    """A count with its thousands apart."""
    return f"{number:,}"


def clock(at_s: float) -> str:
    """An instant as hours and minutes, for a scale of an hour or a day."""
    return moment(at_s)[11:16]


def ago(at_s: float) -> str:
    """How far away an instant is."""
    return distance(at_s, now_s())


def waited(since_s: float | None) -> str:
    """For how long something has been due; `-` if nothing is."""
    if since_s is None or since_s > now_s():
        return "-"
    return age(now_s() - since_s)


def took(seconds: float) -> str:
    """How long an attempt took, to the millisecond."""
    return f"{seconds * 1000:,.0f} ms"


def by_reason(failures: Mapping[str, int]) -> str:
    """Failures by reason, most first."""
    return ", ".join(f"{reason} {number:,}" for reason, number in failures.items()) or "none"
