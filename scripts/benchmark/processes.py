"""The measured processes, each in its own process group; stopped and continued together."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import psutil

ROOT: Final = Path(__file__).parents[2]


def clean_environment(**given: object) -> dict[str, str]:
    """This process's environment without our settings, plus those given."""
    settings = ("CALLBACKS_", "REDIS_", "HEROKU_", "BENCH_", "CELERY_")
    mine = {name: value for name, value in os.environ.items() if not name.startswith(settings)}
    return mine | {"PYTHONPATH": str(ROOT)} | {name: str(value) for name, value in given.items()}


def run(command: Sequence[str], env: Mapping[str, str]) -> str:
    """Run a command and return its output."""
    done = subprocess.run(
        command, env=dict(env), cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True
    )
    return done.stdout


def python(*arguments: str) -> list[str]:
    """A command that runs this Python."""
    return [sys.executable, *arguments]


class Workers:
    """All processes of one contender; none outlives it."""

    def __init__(self, env: Mapping[str, str], log: Path) -> None:
        self._env, self._log = dict(env), log
        self._started: list[subprocess.Popen[bytes]] = []

    def start(self, command: Sequence[str]) -> None:
        """Start one command in its own process group."""
        with self._log.open("ab") as out:
            process = subprocess.Popen(
                command,
                env=self._env,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        self._started.append(process)

    def freeze(self) -> None:
        """Stop them (SIGSTOP), so that what is enqueued now stays queued."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Continue them."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        for process in self._started:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)

    def log_end(self) -> str:
        """The end of their log."""
        return self._log.read_text(errors="replace")[-2000:]

    def cpu_s(self) -> float:
        """CPU seconds that all of them have used, with their children that still run."""
        return sum(sum(times[:2]) for times in self._each(lambda one: one.cpu_times()))

    def memory_mb(self) -> tuple[float, float]:
        """RSS and PSS of all of them; what several have in common counts once in the PSS."""
        all = [*self._each(lambda one: one.memory_full_info())]
        return sum(one.rss for one in all) / 1e6, sum(one.pss for one in all) / 1e6

    def _each(self, read: Callable[[psutil.Process], Any]) -> Iterator[Any]:
        """What is read of each that runs, and of its children."""
        import psutil  # noqa: PLC0415 - the unit tests' environment does without it

        for process in self._started:
            with contextlib.suppress(psutil.NoSuchProcess):
                parent = psutil.Process(process.pid)
                for one in (parent, *parent.children(recursive=True)):
                    with contextlib.suppress(psutil.NoSuchProcess):
                        yield read(one)

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._signal(signal.SIGKILL)
        for process in self._started:
            process.wait()
