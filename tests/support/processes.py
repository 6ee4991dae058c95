"""Real processes, as in the Procfile, each in its own process group."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType

_WORKER = "import sys; from dramatiq.cli import main; sys.exit(main())"
# Third-party imports take most of a worker's start, so they run once, before its processes are
# forked. Each process still imports our own package, which has the broker and its id.
_FORKED_WORKER = f"import pydantic, redis, requests, structlog; {_WORKER}"
_GEVENT_WORKER = f"from gevent import monkey; monkey.patch_all(); {_WORKER}"
_SCHEDULER = "from periodiq import entrypoint; entrypoint()"
_COMMAND = "from callbacks.cli.main import main; main(prog_name='callbacks')"
REPO = Path(__file__).parents[2]


def clean_environment(**given: object) -> dict[str, str]:
    """This process's environment without our settings, plus those given.

    Keeps compiled modules, which every process would otherwise compile first.
    """
    mine = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("CALLBACKS_", "REDIS_", "HEROKU_", "PYTHONDONTWRITE"))
    }
    compiled = {"PYTHONPYCACHEPREFIX": str(Path(tempfile.gettempdir()) / "callbacks-compiled")}
    return mine | compiled | {"PYTHONPATH": str(REPO)} | {k: str(v) for k, v in given.items()}


class Group:
    """One command in its own process group, with its output in a file."""

    def __init__(self, code: str, args: list[str], env: dict[str, str], log: Path) -> None:
        self.log = log
        with log.open("ab") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-c", code, *args],
                env=env,
                cwd=log.parent,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    @property
    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def signal(self, number: signal.Signals) -> None:
        """Signal the whole group, as Heroku does."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        self.process.wait()

    def wait(self, timeout: float) -> int:
        return self.process.wait(timeout)


def worker(
    env: dict[str, str],
    folder: Path,
    *,
    processes: int = 2,
    threads: int = 16,
    modules: Sequence[str] = (),
    shutdown_ms: int = 11_000,
    kind: str = "threads",
) -> Group:
    args = ["callbacks", *modules, "--processes", str(processes), "--threads", str(threads)]
    args += ["--worker-shutdown-timeout", str(shutdown_ms)]
    code = _GEVENT_WORKER if kind == "greenlets" else _FORKED_WORKER
    return Group(code, args, env, folder / "worker.log")


def scheduler(env: dict[str, str], folder: Path) -> Group:
    return Group(_SCHEDULER, ["callbacks"], env, folder / "scheduler.log")


def web(env: dict[str, str], folder: Path, *, port: str | None) -> Group:
    args = ["web"] if port is None else ["web", "--port", port]
    return Group(_COMMAND, args, env | {"PYTHONUNBUFFERED": "1"}, folder / "web.log")


class Groups:
    """All process groups that a test starts; none outlives it."""

    def __init__(self, env: dict[str, str], folder: Path, *, kind: str = "threads") -> None:
        self.env, self.folder, self.kind = env, folder, kind
        self.started: list[Group] = []

    def worker(
        self,
        *,
        processes: int = 2,
        threads: int = 16,
        modules: Sequence[str] = (),
        shutdown_ms: int = 11_000,
        kind: str | None = None,
        **env: object,
    ) -> Group:
        """`kind`: `threads`, as of `dramatiq`, or `greenlets`, as of `dramatiq-gevent`.

        By default it is the one that all workers of these groups have.
        """
        more = self.env | {name: str(value) for name, value in env.items()}
        group = worker(
            more,
            self.folder,
            processes=processes,
            threads=threads,
            modules=modules,
            shutdown_ms=shutdown_ms,
            kind=kind or self.kind,
        )
        self.started.append(group)
        return group

    def dramatiq(self, *modules: str, **env: object) -> Group:
        """Run Dramatiq's command with modules in this order."""
        more = self.env | {name: str(value) for name, value in env.items()}
        args = [*modules, "--processes", "1", "--threads", "2"]
        group = Group(_WORKER, args, more, self.folder / "worker.log")
        self.started.append(group)
        return group

    def scheduler(self, **env: object) -> Group:
        group = scheduler(self.env | {k: str(v) for k, v in env.items()}, self.folder)
        self.started.append(group)
        return group

    def web(self, *, port: str = "0", **env: object) -> Group:
        """Start `callbacks web` on any free port, unless `env` has PORT."""
        more = self.env | {name: str(value) for name, value in env.items()}
        group = web(more, self.folder, port=None if "PORT" in env else port)
        self.started.append(group)
        return group

    def __enter__(self) -> Groups:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for group in self.started:
            group.kill()


def load() -> float:
    """The load per core: below 1 if no process waits for one."""
    return os.getloadavg()[0] / (os.cpu_count() or 1)


def until(met: Callable[[], bool], *, within: float, what: str = "") -> float:
    """Poll until `met` and return how long it took; fails after `within` s, more if busy."""
    started = time.monotonic()
    while not met():
        waited, patience = time.monotonic() - started, within + min(30, 2 * load())
        assert waited < patience, f"not within {patience:.0f} s: {what or met}"
        time.sleep(0.02)
    return time.monotonic() - started


def refusals(output: str) -> list[str]:
    """Our lines for people in the output of a process, also where they are text within its log."""
    found = re.findall(r'(?:^|text=")(callbacks: .*?)"?$', output, re.MULTILINE)
    return [line.replace('\\"', '"') for line in found]
