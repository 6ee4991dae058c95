"""An embedded Redis-compatible server, which ends with this process however that ends."""

from __future__ import annotations

import subprocess
import time
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import redis
from redis import Redis

from callbacks.cli.processes import RunError, server_binary, short_temporary_folder

_PATIENCE_S: Final = 20.0
_POLL_S: Final = 0.005
#: Ends the server when its standard input ends, as it does when this process is killed.
_GUARD: Final = '"$@" </dev/null & cat >/dev/null; kill "$!"; wait "$!"'


class EmbeddedServer:
    """A server in a folder of its own, reached through a socket there; it keeps nothing.

    A context manager. Raises `RunError` if there is none to run, or it does not start.
    """

    def __init__(self) -> None:
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        binary = server_binary("testing")
        with ExitStack() as stack:
            folder = stack.enter_context(short_temporary_folder("callbacks-testing-"))
            self._socket = folder / "redis.sock"
            process = self._start(binary, folder)
            stack.callback(_end, process)
            self.client = stack.enter_context(_client(self._socket))
            self._await(process, folder)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    @property
    def url(self) -> str:
        """Its URL, for `CALLBACKS_REDIS_URL`."""
        return f"unix://{self._socket}"

    def _start(self, binary: str, folder: Path) -> subprocess.Popen[bytes]:
        options = {
            "port": "0",
            "unixsocket": str(self._socket),
            "unixsocketperm": "700",
            "dir": str(folder),
            "save": "",
            "appendonly": "no",
        }
        words = [word for name, value in options.items() for word in (f"--{name}", value)]
        with (folder / "server.log").open("ab") as log:
            return subprocess.Popen(  # noqa: S603 - our own command
                ["/bin/sh", "-c", _GUARD, "sh", binary, *words],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,  # a Ctrl-C is for the tests, which still need it
            )

    def _await(self, process: subprocess.Popen[bytes], folder: Path) -> None:
        give_up = time.monotonic() + _PATIENCE_S
        while True:
            try:
                self.client.ping()
            except redis.ConnectionError:
                if process.poll() is not None or time.monotonic() > give_up:
                    log = (folder / "server.log").read_text(errors="replace")
                    raise RunError(f"the embedded server did not start:\n{log}") from None
                time.sleep(_POLL_S)
            else:
                return


def _client(socket: Path) -> Redis:
    return Redis(unix_socket_path=str(socket), protocol=2)


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.stdin:
        process.stdin.close()
    process.wait()
