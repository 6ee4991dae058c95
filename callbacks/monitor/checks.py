"""One check of `callbacks doctor`: how it ended, what was found, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class CheckStatus(StrEnum):
    """How a check ended."""

    OK = "ok"
    WARNING = "warning"
    FAILURE = "failure"


@dataclass(frozen=True, slots=True)
class Check:
    """One check: its name, how it ended, what was found, and what to do where it is not ok."""

    name: str
    verdict: CheckStatus
    found: str
    todo: str = ""


def ok(name: str, found: str) -> Check:
    """Nothing to do."""
    return Check(name, CheckStatus.OK, found)


def warning(name: str, found: str, todo: str) -> Check:
    """It works, and somebody should look at it."""
    return Check(name, CheckStatus.WARNING, found, todo)


def failure(name: str, found: str, todo: str) -> Check:
    """Callbacks are lost, refused, not sent, or sent otherwise than promised."""
    return Check(name, CheckStatus.FAILURE, found, todo)


def unknown(name: str, setting: str) -> Check:
    """Redis does not tell."""
    found = f"{setting} is unknown: it must not be read here"
    return warning(name, found, f"ask whoever runs this Redis what {setting} is")
