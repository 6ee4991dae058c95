"""Seconds, the unit of every setting, as the whole units that are stored."""

from __future__ import annotations


def ms(seconds: float) -> int:
    """Seconds as whole milliseconds, the unit of everything that is stored."""
    return round(seconds * 1_000)


def us(seconds: float) -> int:
    """Seconds as whole microseconds, the unit of paces that adapt by hundredths."""
    return round(seconds * 1_000_000)
