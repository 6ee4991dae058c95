"""`callbacks dev`: all of it starts, delivers, and ends without leaving anything."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.process.conftest import System
from tests.process.test_web import get
from tests.support.processes import clean_environment, until

COMMAND = [sys.executable, "-m", "callbacks"]


class Dev:
    """One `callbacks dev` in its own folder; its log goes into a file."""

    def __init__(self, folder: Path, *words: str, **environ: str) -> None:
        self.folder = folder
        self.log = folder / "dev.log"
        self.environ = clean_environment(**environ)
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*COMMAND, "dev", "--port", "0", "--json", *words],
                env=self.environ,
                cwd=folder,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )

    def read(self) -> dict[str, Any]:
        """What it says once everything listens."""
        assert self.process.stdout is not None
        lines: list[str] = []
        while not lines or lines[-1].rstrip() != "}":
            lines.append(self.process.stdout.readline())
            assert lines[-1], self.output
        told = json.loads("".join(lines))
        self.environ |= told["environment"]
        return dict(told)

    @property
    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def run(self, *words: str) -> str:
        """Run another command with the environment that was told."""
        done = subprocess.run(
            [*COMMAND, *words], env=self.environ, capture_output=True, text=True, check=True
        )
        return done.stdout

    def pids(self) -> set[int]:
        """Its child processes, and theirs."""
        listed = subprocess.run(
            ["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True
        ).stdout
        pairs = [tuple(map(int, line.split())) for line in listed.splitlines()]
        found, before = {self.process.pid}, set[int]()
        while found != before:
            before = set(found)
            found |= {pid for pid, parent in pairs if parent in found}
        return found - {self.process.pid}

    def end(self, number: signal.Signals = signal.SIGINT) -> int:
        """End it as Ctrl-C does; nothing that it had started may be left."""
        pids = self.pids()
        assert pids
        self.process.send_signal(number)
        code = self.process.wait(40)
        assert [pid for pid in pids if is_running(pid)] == []
        return code


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@contextmanager
def dev(folder: Path, *words: str, **environ: str) -> Iterator[Dev]:
    started = Dev(folder, *words, **environ)
    try:
        yield started
    finally:
        if started.process.poll() is None:
            started.process.terminate()
            started.process.wait(40)
        assert started.process.stdout is not None
        started.process.stdout.close()
        sys.stdout.write(started.output)  # shown if the test fails


def test_it_delivers_and_ends_with_ctrl_c_and_keeps_its_data_and_secret(tmp_path: Path) -> None:
    with dev(tmp_path) as first:
        told = first.read()
        assert set(told["environment"]) == {
            "REDIS_URL",
            "CALLBACKS_SECRET",
            "CALLBACKS_ALLOWED_NETWORKS",
        }
        first.run("enqueue", told["receiver"] + "hook", "--id", "c-1")
        arrived = "POST /hook id=c-1 attempt=1 signature=valid answer=200"
        until(lambda: arrived in first.output, within=20)
        until(lambda: json.loads(first.run("show", "c-1", "--json"))["state"] == "sent", within=5)
        assert get(told["page"].rstrip("/"), "/healthz")[0] == 200
        for name in ("receiver", "worker", "scheduler", "web"):
            assert f"\n{name:<9} | " in "\n" + first.output
        assert refusal(tmp_path, "--port", "0") == (
            "callbacks: another `callbacks dev` runs here and uses .callbacks\n"
        )
        assert first.end() == 0
        assert "Traceback" not in first.output
    assert (tmp_path / ".callbacks" / ".gitignore").read_text() == "*\n"
    with dev(tmp_path) as second:
        again = second.read()
        secret = "CALLBACKS_SECRET"
        assert again["environment"][secret] == told["environment"][secret]
        assert json.loads(second.run("show", "c-1", "--json"))["state"] == "sent"
        assert second.end(signal.SIGTERM) == 0


def test_with_a_redis_and_a_secret_of_ones_own_these_are_used(
    tmp_path: Path, system: System
) -> None:
    secret = f"whsec_{'A' * 43}="
    environ = {"REDIS_URL": system.server.url, "CALLBACKS_SECRET_STAGING": secret}
    networks = {"CALLBACKS_ALLOWED_NETWORKS": "10.0.0.0/8"}
    with dev(tmp_path, **environ, **networks) as started:
        told = started.read()
        assert told["environment"] == {
            "CALLBACKS_ALLOWED_NETWORKS": "10.0.0.0/8 127.0.0.0/8 ::1/128"
        }
        started.run("enqueue", told["receiver"], "--id", "c-1", "--environment", "staging")
        until(lambda: "id=c-1 attempt=1 signature=valid" in started.output, within=20)
        until(lambda: system.overview().totals["sent"] == 1, within=5)
        assert started.end() == 0
        assert system.overview().totals["sent"] == 1  # the server is not ours to end


def test_it_ends_where_one_of_its_processes_does(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("raise SystemExit(3)\n")
    with dev(tmp_path, "broken") as started:
        assert started.process.wait(60) == 1
        last = started.output.splitlines()[-1]
        assert last.startswith("callbacks: the worker ended with exit code ")
        assert started.pids() == set()


def test_a_port_in_use_is_reported_in_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused = refusal(tmp_path, "--port", str(port))
    assert refused == (
        f"callbacks: cannot listen on 127.0.0.1:{port}: Address already in use; try --port\n"
    )


def refusal(folder: Path, *words: str) -> str:
    """What a `callbacks dev` says that exits with 1."""
    done = subprocess.run(
        [*COMMAND, "dev", *words],
        env=clean_environment(),
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    return done.stderr
