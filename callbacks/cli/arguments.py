"""Argument types of the commands: an id, a destination, a time. A bad one ends with exit code 2."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import click
from click.shell_completion import CompletionItem

from callbacks.admin.filters import to_statuses
from callbacks.cli import completion
from callbacks.model import InvalidCallback, State
from callbacks.request.freeze import check_id
from callbacks.when import When, read_when


class _Time(click.ParamType[When]):
    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> When:
        """Parse seconds, an age or an RFC 3339 time (UTC if it has no zone)."""
        if isinstance(value, When):
            return value
        try:
            return read_when(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class _Destination(click.ParamType[str]):
    name = "destination"

    def convert(
        self,
        value: Any,
        param: click.Parameter | None,  # noqa: ARG002 - click's signature
        ctx: click.Context | None,  # noqa: ARG002
    ) -> str:
        """Take it as it is: `callbacks.admin` checks it with the settings."""
        return str(value)

    def shell_complete(
        self,
        ctx: click.Context,  # noqa: ARG002 - click's signature
        param: click.Parameter,  # noqa: ARG002
        incomplete: str,
    ) -> list[CompletionItem]:
        """Complete one that waits, or was used within a day."""
        return completion.destinations(incomplete)


class _Checked(click.ParamType[str]):
    """A text that a function of the package checks."""

    def __init__(self, name: str, check: Callable[[str], object]) -> None:
        self.name = name
        self._check = check

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Take it as it is, if it is right."""
        try:
            self._check(value)
        except InvalidCallback as error:
            self.fail(f"it {error.problem}", param, ctx)
        return str(value)


class _Id(_Checked):
    """The id of a callback; in these states, it can be completed."""

    def __init__(self, *states: State) -> None:
        super().__init__("id", check_id)
        self._states = frozenset(states)

    def shell_complete(
        self,
        ctx: click.Context,  # noqa: ARG002 - click's signature
        param: click.Parameter,  # noqa: ARG002
        incomplete: str,
    ) -> list[CompletionItem]:
        """Complete the id of a callback in one of the states."""
        return completion.ids(self._states, incomplete)


TIME: Final = _Time()
HTTP_STATUS: Final = _Checked("status", to_statuses)
#: A new id, any known one, one that can be cancelled, one that can be replayed or purged.
NEW_ID: Final = _Id()
ID: Final = _Id(*State)
LIVE_ID: Final = _Id(State.QUEUED, State.PROCESSING)
DEAD_ID: Final = _Id(State.DEAD)
DESTINATION: Final = _Destination()
