"""Argument types of the commands: an id, a time. A bad value ends with exit code 2."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import click

from callbacks.model import InvalidCallback
from callbacks.request.freeze import check_id

_LENGTH: Final = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)(s|min|m|h|d)?")
_UNIT_S: Final = {None: 1, "s": 1, "m": 60, "min": 60, "h": 3_600, "d": 86_400}
_EXPECTED: Final = "seconds (90), an age (10m, 2h, 3d) or an RFC 3339 time (2026-01-31T09:00:00Z)"


@dataclass(frozen=True, slots=True)
class When:
    """A duration, or an instant in seconds since 1970: one of them is None."""

    length_s: float | None = None
    at_s: float | None = None

    def ahead(self, now_s: float) -> float:
        """Seconds from now; negative for an instant in the past."""
        return self.length_s if self.length_s is not None else (self.at_s or 0.0) - now_s

    def ago(self, now_s: float) -> float:
        """The instant in seconds since 1970; a duration counts back from now."""
        return self.at_s if self.at_s is not None else now_s - (self.length_s or 0.0)


class _Time(click.ParamType[When]):
    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> When:
        """Parse seconds, an age or an RFC 3339 time (UTC if it has no zone)."""
        if isinstance(value, When):
            return value
        length = _LENGTH.fullmatch(value)
        if length:
            return When(length_s=float(length[1]) * _UNIT_S[length[2]])
        try:
            at = datetime.fromisoformat(value)
            return When(at_s=(at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp())
        except (ValueError, OverflowError):
            self.fail(f"{value!r} is not a time; expected {_EXPECTED}", param, ctx)


class _Id(click.ParamType[str]):
    name = "id"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Accept a valid callback id."""
        try:
            return check_id(value)
        except InvalidCallback as error:
            self.fail(f"it {error.problem}", param, ctx)


TIME: Final = _Time()
ID: Final = _Id()
