"""A second network namespace, joined to this one by a cable that can be pulled (Linux, as root)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Final

#: Set in a process that runs in a network namespace of its own.
INSIDE: Final = "CALLBACKS_TEST_NAMESPACE"
NEAR: Final = "10.99.0.1"
FAR: Final = "10.99.0.2"


def is_inside() -> bool:
    return INSIDE in os.environ


def allowed() -> bool:
    """Whether this user may make network namespaces, and a cable between two of them."""
    script = "ip link set lo up && ip tuntap add dev near mode tap"
    try:
        done = subprocess.run(
            ["unshare", "-n", "sh", "-c", script], capture_output=True, check=False
        )
    except FileNotFoundError:
        return False
    return done.returncode == 0


def run_inside(path: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a file's tests in a network namespace of their own, without xdist."""
    command = ["unshare", "-n", sys.executable, "-m", "pytest", path, "-q", "-x", "-p", "no:xdist"]
    inside = os.environ | {INSIDE: "1"}
    out = subprocess.PIPE
    with subprocess.Popen(
        [*command, *words], env=inside, stdout=out, stderr=out, text=True, start_new_session=True
    ) as process:
        try:
            said, errors = process.communicate(timeout=100)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    return subprocess.CompletedProcess(command, process.returncode, said, errors)


def _run(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True)


class FarSide:
    """The other namespace: this side has the address `NEAR`, that one `FAR`."""

    def __enter__(self) -> FarSide:
        _run("ip", "link", "set", "lo", "up")
        self._holder = subprocess.Popen(
            ["unshare", "-n", "sleep", "120"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self._enter = ["nsenter", "-t", str(self._holder.pid), "-n"]
        self._until_apart()
        self._cable = subprocess.Popen(
            [sys.executable, "-m", "tests.support.cable", str(self._holder.pid)],
            stdout=subprocess.PIPE,
        )
        assert self._cable.stdout is not None
        assert self._cable.stdout.readline() == b"ready\n"
        _run("ip", "address", "add", f"{NEAR}/24", "dev", "near")
        _run("ip", "link", "set", "near", "up")
        for words in (
            ("link", "set", "lo", "up"),
            ("address", "add", f"{FAR}/24", "dev", "far"),
            ("link", "set", "far", "up"),
        ):
            _run(*self._enter, "ip", *words)
        return self

    def _until_apart(self) -> None:
        """Wait until `unshare` has made the namespace."""
        ours = Path("/proc/self/ns/net").readlink()
        while Path(f"/proc/{self._holder.pid}/ns/net").readlink() == ours:
            if self._holder.poll() is not None:
                raise AssertionError("no second namespace")

    def command(self, *words: str) -> list[str]:
        """The command that runs another one over there."""
        return [*self._enter, *words]

    def cut(self) -> None:
        """Pull the cable: connections stay open on both sides and bring nothing."""
        self._cable.send_signal(signal.SIGUSR1)

    def join(self) -> None:
        """Plug it in again."""
        self._cable.send_signal(signal.SIGUSR2)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._cable.stdout is not None
        self._cable.stdout.close()
        for process in (self._cable, self._holder):
            process.kill()
            process.wait()
