"""How people and programs give times: seconds, an age, or RFC 3339. Pure; seconds since 1970."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

_LENGTH: Final = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)(s|min|m|h|d)?")
_UNIT_S: Final = {None: 1, "s": 1, "m": 60, "min": 60, "h": 3_600, "d": 86_400}
#: What is expected where a time is given.
EXPECTED: Final = "seconds (90), an age (10m, 2h, 3d) or an RFC 3339 time (2026-01-31T09:00:00Z)"


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


#: A time as Python code gives it: a text in one of these ways, a duration, or an aware datetime.
Moment = str | timedelta | datetime | When


def read_when(given: Moment) -> When:
    """Read a time; a text without a zone is UTC. Raises ValueError, which says what is wrong."""
    match given:
        case When():
            return given
        case timedelta():
            return When(length_s=given.total_seconds())
        case datetime():
            return When(at_s=_aware(given).timestamp())
        case str():
            return _read_text(given)
    raise ValueError(f"a {type(given).__name__} is not a time; expected {EXPECTED}")


def _aware(at: datetime) -> datetime:
    if at.tzinfo is None:
        raise ValueError(f"{at} has no time zone; expected an aware datetime")
    return at


def _read_text(text: str) -> When:
    length = _LENGTH.fullmatch(text)
    if length:
        return When(length_s=float(length[1]) * _UNIT_S[length[2]])
    try:
        return When(at_s=instant(text))
    except (ValueError, OverflowError):
        raise ValueError(f"{text[:50]!r} is not a time; expected {EXPECTED}") from None


def instant(text: str) -> float:
    """An RFC 3339 time in seconds since 1970; raises ValueError."""
    at = datetime.fromisoformat(text)
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


def rfc3339(at_s: float) -> str:
    """An instant as RFC 3339 in UTC, to the millisecond."""
    text = datetime.fromtimestamp(round(at_s, 3), UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")
