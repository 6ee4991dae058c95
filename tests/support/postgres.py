"""A private PostgreSQL for tests, from Debian's packages: on a Unix socket in its own folder."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import psycopg


def folder_of_binaries() -> Path | None:
    """Where `initdb` and `postgres` are, of the newest release that is installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parts[-2]))
    on_path = shutil.which("initdb")
    return found[-1] if found else Path(on_path).parent if on_path else None


class Postgres:
    """One server process. As root it runs as the user `postgres`: it refuses to run as root."""

    def __init__(self, binaries: Path) -> None:
        self._binaries = binaries
        self._folder = Path(tempfile.mkdtemp(prefix="callbacks-pg-"))
        self._as: tuple[str, ...] = ()
        if os.geteuid() == 0:
            user = pwd.getpwnam("postgres")
            os.chown(self._folder, user.pw_uid, user.pw_gid)
            ids = (f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--init-groups")
            self._as = ("setpriv", *ids)

    @property
    def parameters(self) -> str:
        """For a URL of any driver."""
        return f"host={self._folder}&user=postgres"

    def start(self) -> Postgres:
        data, log = self._folder / "data", self._folder / "log"
        self._run("initdb", "-D", str(data), "-U", "postgres", "-A", "trust", "-N", "-E", "UTF8")
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                [*self._as, str(self._binaries / "postgres"), "-D", str(data), "-k",
                 str(self._folder), "-c", "listen_addresses=", "-c", "fsync=off"],
                stdout=out, stderr=out,
            )  # fmt: skip
        give_up = time.monotonic() + 30
        while True:
            with contextlib.suppress(psycopg.OperationalError):
                psycopg.connect(host=str(self._folder), user="postgres").close()
                return self
            if self._process.poll() is not None or time.monotonic() > give_up:
                raise AssertionError(f"PostgreSQL did not start:\n{log.read_text()}")
            time.sleep(0.02)

    def _run(self, name: str, *args: str) -> None:
        done = subprocess.run(
            [*self._as, str(self._binaries / name), *args],
            cwd="/", env=os.environ | {"LC_ALL": "C"}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr

    def stop(self) -> None:
        self._process.send_signal(signal.SIGQUIT)
        self._process.wait(30)
        shutil.rmtree(self._folder, ignore_errors=True)
