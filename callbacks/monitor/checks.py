"""One check of `callbacks doctor`: its verdict, what was found, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class CheckStatus(StrEnum):
    """The verdict of a check."""

    OK = "ok"
    WARNING = "warning"
    FAILURE = "failure"


@dataclass(frozen=True, slots=True)
class Check:
    """One check; `todo` says what to do if it is not ok."""

    name: str
    verdict: CheckStatus
    found: str
    todo: str = ""

    @property
    def runbook(self) -> str:
        """The section of the runbook that says more, relative to this repository."""
        return runbook(f"doctor: {self.name}")


def runbook(title: str) -> str:
    """Where the runbook has the section of this title: the anchor that a heading gets in HTML."""
    return f"docs/runbook.md#{title.replace(':', '').replace(' ', '-')}"


def ok(name: str, found: str) -> Check:
    """Nothing to do."""
    return Check(name, CheckStatus.OK, found)


def warning(name: str, found: str, todo: str) -> Check:
    """It works, but somebody should look at it."""
    return Check(name, CheckStatus.WARNING, found, todo)


def failure(name: str, found: str, todo: str) -> Check:
    """Callbacks are lost, refused, not sent, or not sent as promised."""
    return Check(name, CheckStatus.FAILURE, found, todo)


def unknown(name: str, setting: str) -> Check:
    """Redis does not let us read a setting."""
    found = f"{setting} is unknown: this user may not read it"
    return warning(name, found, f"ask whoever runs this Redis what {setting} is")
