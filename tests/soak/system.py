"""The system under test: its Redis, groups of workers, a scheduler, and their supervisor.

The supervisor does what Heroku or systemd would: it restarts a group whose main process has exited,
and kills one that does not end within 30 s of a SIGTERM.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tests.soak.diary import Diary
from tests.soak.servers import Cluster, OneRedis
from tests.support.processes import REPO, Group, clean_environment, scheduler, worker
from tests.support.server import Server

WORKER_GROUPS: Final = 2
_THREADS: Final = 16
#: What Heroku allows between SIGTERM and SIGKILL.
_GRACE_S: Final = 30.0
_RESTART_S: Final = 0.3
_POLL_S: Final = 0.1

SETTINGS: Final = {
    "CALLBACKS_ALLOWED_NETWORKS": "127.0.0.0/8",
    "CALLBACKS_SEND_INTERVAL": "0.02",
    "CALLBACKS_DESTINATION_INTERVAL": "0.02",
    # 2.5 % of 503 and 1 % of timeouts at any pace would let it grow to its default of 30 s.
    "CALLBACKS_DESTINATION_INTERVAL_MAX": "0.5",
    "CALLBACKS_RETRY_INCREMENT": "2",
    "CALLBACKS_DEADLINE": "3",
    "CALLBACKS_MAX_QUEUED": "1000",  # so that the producer meets QueueFull, too
}


class Place:
    """A slot in which groups run one after another. `asked`: it was told to end, or hit.

    A process stopped at its SIGTERM gets the grace after it continues.
    """

    def __init__(self, name: str, start: Callable[[], Group]) -> None:
        self.name = name
        self.start = start
        self.group = start()
        self.asked = False
        self.kill_at: float | None = None
        self.goes_on_at = 0.0

    def terminate(self) -> None:
        self.asked = True
        now = time.monotonic()
        self.kill_at = self.kill_at or max(now, self.goes_on_at) + _GRACE_S
        self.group.signal(signal.SIGTERM)

    def stopped(self, seconds: float) -> None:
        """One of its processes is stopped for this long."""
        self.goes_on_at = max(self.goes_on_at, time.monotonic() + seconds)
        if self.kill_at is not None:
            self.kill_at = max(self.kill_at, self.goes_on_at + _GRACE_S)


class System:
    """Everything that runs. None of it outlives `stop`."""

    def __init__(self, folder: Path, diary: Diary, servers: OneRedis | Cluster) -> None:
        self.diary = diary
        self.servers = servers
        self.environ = {**SETTINGS, **servers.settings, "REDIS_URL": servers.url}
        env = clean_environment(**self.environ)
        self.workers = [
            Place(f"workers {n}", lambda: worker(env, folder, processes=2, threads=_THREADS))
            for n in range(1, WORKER_GROUPS + 1)
        ]
        self.scheduler = Place("scheduler", lambda: scheduler(env, folder))
        self._env = env
        #: What ended without being asked, and what did not although it was.
        self.troubles: list[str] = []
        #: Servers that are away, and when each comes back.
        self.back_at: dict[Server, float] = {}
        self.lock = threading.RLock()

    @property
    def places(self) -> list[Place]:
        return [*self.workers, self.scheduler]

    def supervise(self, ended: threading.Event) -> None:
        """Restart what has exited, until the end."""
        while not ended.wait(_POLL_S):
            with self.lock:
                self._revive_redis()
                for place in self.places:
                    self._look_after(place)

    def _revive_redis(self) -> None:
        for server, at in list(self.back_at.items()):
            if time.monotonic() >= at:
                server.kill()
                server.start(ready=False)  # others may be hit while it loads
                del self.back_at[server]
                self.diary.note(f"Redis at port {server.port} is started anew")

    def _look_after(self, place: Place) -> None:
        code = place.group.process.poll()
        if code is None:
            if place.kill_at is not None and time.monotonic() > place.kill_at:
                self._trouble(f"{place.name} was not gone {_GRACE_S:g} s after SIGTERM")
                place.group.kill()
            return
        self.diary.note(f"{place.name} ended with {code}")
        if not place.asked:
            self._trouble(f"{place.name} ended with {code} by itself")
        place.group.signal(signal.SIGKILL)  # what is left of the group
        place.group = place.start()
        place.asked, place.kill_at, place.goes_on_at = False, None, 0.0
        self.diary.note(f"{place.name} is started anew")

    def _trouble(self, text: str) -> None:
        self.diary.note(text, kind="trouble with who had to stay, or to go")
        self.troubles.append(text)

    def processes_of(self, place: Place) -> list[int]:
        """The living processes of a group, the main one first."""
        table = subprocess.run(
            ["ps", "-A", "-o", "pid=,pgid=,stat="], capture_output=True, text=True, check=True
        )
        rows = (line.split(None, 2) for line in table.stdout.splitlines())
        main = place.group.process.pid
        alive = {int(pid) for pid, group, stat in rows if int(group) == main and stat[0] != "Z"}
        return sorted(alive, key=lambda pid: (pid != main, pid))

    def hit(self, place: Place, pid: int, number: signal.Signals) -> bool:
        """Signal one process, if it is still one of the group's."""
        with contextlib.suppress(ProcessLookupError):
            if os.getpgid(pid) == place.group.process.pid:
                os.kill(pid, number)
                return True
        return False

    def audit(self) -> list[str]:
        """What `callbacks audit` finds."""
        command = [sys.executable, "-m", "callbacks", "audit"]
        run = subprocess.run(
            command, env=self._env, cwd=REPO, capture_output=True, text=True, check=False
        )
        if run.returncode == 0:
            return []
        return (run.stdout + run.stderr).splitlines() or [f"exit code {run.returncode}"]

    def stop(self) -> None:
        """End everything, also stopped processes."""
        for place in self.places:
            place.group.kill()
        self.servers.stop()
