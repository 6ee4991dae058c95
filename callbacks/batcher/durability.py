"""What Redis has to say before a callback counts as stored: on its disk, in a replica, or both.

`WAIT` and `WAITAOF` follow what was written on the same connection, so a failover in between is
noticed: either the connection breaks, or the command ends with an error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import hiredis

from callbacks.batcher.errors import NotDurable
from callbacks.units import ms

if TYPE_CHECKING:
    from callbacks.settings import Settings


@dataclass(frozen=True, slots=True)
class Wait:
    """What is waited for: the disk of the primary (`aof`), one replica, or both, each so long."""

    aof: bool
    replica: bool
    timeout_ms: int

    @property
    def commands(self) -> list[tuple[Any, ...]]:
        """What is sent after the writes."""
        aof: tuple[Any, ...] = ("WAITAOF", 1, 0, self.timeout_ms)
        replica: tuple[Any, ...] = ("WAIT", 1, self.timeout_ms)
        return [command for command, is_on in ((aof, self.aof), (replica, self.replica)) if is_on]

    @property
    def packed(self) -> bytes:
        """The commands as they are sent."""
        return b"".join(hiredis.pack_command(command) for command in self.commands)

    def applied(self, replies: Sequence[Any], told: Sequence[Any]) -> list[Any]:
        """Return the replies to the writes, or for each that was no error a `NotDurable`.

        `told`: the replies to `commands`.
        """
        missing = "; ".join(filter(None, map(self._missing, self.commands, told)))
        if not missing:
            return list(replies)
        return [
            reply if isinstance(reply, Exception) else _not_durable(missing, reply)
            for reply in replies
        ]

    def _missing(self, command: Sequence[str | int], told: Any) -> str:
        """What a command has not brought about, in words."""
        if isinstance(told, Exception):
            return f"Redis answers to {command[0]}: {told}"
        within = f"within {self.timeout_ms / 1_000:g} s"
        if command[0] == "WAITAOF":
            return "" if told[0] >= 1 else f"it is not on the disk of Redis {within}"
        return "" if told >= 1 else f"no replica has it {within}"


def _not_durable(missing: str, reply: Any) -> NotDurable:
    error = NotDurable(f"stored, but {missing}")
    error.reply = reply
    return error


def wait_for(settings: Settings) -> Wait | None:
    """Read what has to be waited for from the settings; None for nothing."""
    parts = settings.wait_for.split("+")
    if parts == [""]:
        return None
    return Wait("aof" in parts, "replica" in parts, ms(settings.wait_timeout))
