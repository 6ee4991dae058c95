"""Converts seconds, the unit of every setting, to the units that are stored."""

from __future__ import annotations


def ms(seconds: float) -> int:
    """Seconds as whole milliseconds."""
    return round(seconds * 1_000)


def us(seconds: float) -> int:
    """Seconds as whole microseconds, the unit of intervals, which may change by 1 %."""
    return round(seconds * 1_000_000)
