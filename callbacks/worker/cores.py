"""Pins each worker process to a core of its own, if `CALLBACKS_PIN_CORES` is set and it is safe.

The threads of a process constantly hand the interpreter to each other. On one core that is a
switch; between cores, the next thread is woken elsewhere and often finds the interpreter taken
again. Greenlets share one thread and gain nothing.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import sys
import threading
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from callbacks.log import log
from callbacks.native import has_greenlets


def pin(index: int, processes: int) -> None:
    """Keep this process, one of so many siblings, on one core, or log why not."""
    cores = usable_cores()
    if why := objection(processes, len(cores), quota(), green=has_greenlets()):
        log.info("core_not_pinned", reason=why)
        return
    # What siblings have in common and no others: so those of two releases or two containers on
    # one machine do not all begin with its first core.
    start = zlib.crc32(multiprocessing.current_process().authkey)
    core = core_of(index, cores, start)
    try:
        for thread in threading.enumerate():  # later ones stay where the one is that starts them
            if thread.native_id is not None:
                os.sched_setaffinity(thread.native_id, {core})
    except OSError as error:  # a sandbox that forbids it
        log.warning("core_not_pinned", reason=str(error))
    else:
        log.info("core_pinned", core=core, cores=len(cores))


def core_of(index: int, cores: Sequence[int], start: int) -> int:
    """Give each of at most as many siblings as there are cores another core."""
    return cores[(start + index) % len(cores)]


def objection(processes: int, cores: int, quota: float, *, green: bool) -> str:
    """Say why a process should not be kept on one core; empty if nothing speaks against it."""
    if not cores:
        return "this system cannot"
    if green:
        return "greenlets gain nothing"
    if processes > cores:
        return f"{processes} processes for {cores} cores"
    if quota < cores:
        return f"a quota of {quota:g} of {cores} cores"
    return ""


def usable_cores() -> list[int]:
    """The cores that this process may use, also inside a cpuset; none where that is not known."""
    if sys.platform != "linux":
        return []
    return sorted(os.sched_getaffinity(0))


def quota(root: Path = Path("/")) -> float:
    """How many cores' time this process's control groups allow; infinite without a limit."""
    return min(_quotas(root), default=math.inf)


def _quotas(root: Path) -> Iterator[float]:
    """The limit of each group around this process: of version 2, or of version 1's `cpu`."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, kinds, path = line.split(":", 2)
        if kinds and "cpu" not in kinds.split(","):
            continue
        base = root / "sys/fs/cgroup" / ("cpu" if kinds else "")
        group = base / path.lstrip("/")
        for folder in (group, *group.parents):
            if folder.is_relative_to(base):
                yield from _quota(folder)


def _quota(group: Path) -> Iterator[float]:
    version_1 = f"{_text(group / 'cpu.cfs_quota_us')} {_text(group / 'cpu.cfs_period_us')}"
    match (_text(group / "cpu.max") or version_1).split():
        case [share, period] if share.isdigit() and period.isdigit():  # else `max`, or -1
            yield int(share) / int(period)


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
