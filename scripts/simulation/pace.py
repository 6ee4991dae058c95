"""When a send may go: `reserved` of lua/parts/common.lua, and lua/parts/instant.lua."""

from __future__ import annotations

from typing import Final

#: A wait for the destination alone may not be longer, as it holds up a place.
_OWN_WAIT_MS: Final = 50


def reserved(at: int, most_ahead: int, now: int) -> int:
    """A reserved time, or 0 if it is too far ahead to be true."""
    return at if at <= now + most_ahead else 0


def instant(
    now: int,
    due: int,
    *,
    over_all: tuple[int, int],
    own: tuple[int, int],
    max_wait: int,
    longest: int,
    unused: int | None = None,
) -> tuple[int, bool]:
    """The instant, and whether it is too far ahead to wait for.

    `over_all`, `own`: when the next instant is free, and the pace. `unused`: the one that this
    attempt reserved and missed.
    """

    def free_from(at: int, pace: int) -> int:
        if pace == 0:
            return 0
        at = reserved(at, max_wait + longest, now)
        return unused if unused is not None and at == unused + pace else at

    free = max(now, due, free_from(*over_all))
    at = max(free, free_from(*own))
    return at, at - now > max_wait or at - free > max(over_all[1], _OWN_WAIT_MS)
