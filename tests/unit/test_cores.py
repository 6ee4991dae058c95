"""A worker process is kept on one core only if that does no harm; siblings on different ones."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callbacks.worker import cores


@given(st.sets(st.integers(0, 500), min_size=1).map(sorted), st.integers(0, 2**32 - 1), st.data())
def test_siblings_get_different_cores_of_those_that_may_be_used(
    usable: list[int], start: int, data: st.DataObject
) -> None:
    processes = data.draw(st.integers(1, len(usable)))

    chosen = [cores.core_of(index, usable, start) for index in range(processes)]

    assert len(set(chosen)) == processes
    assert set(chosen) <= set(usable)


def test_siblings_of_another_parent_begin_with_another_core() -> None:
    assert [cores.core_of(0, [2, 3, 6], start) for start in range(4)] == [2, 3, 6, 2]


@pytest.mark.parametrize(
    ("processes", "usable", "quota", "green", "why"),
    [
        (2, 2, math.inf, False, ""),
        (1, 8, 8.0, False, ""),
        (2, 2, math.inf, True, "greenlets gain nothing"),
        (3, 2, math.inf, False, "3 processes for 2 cores"),
        (2, 8, 1.5, False, "a quota of 1.5 of 8 cores"),
        (1, 0, math.inf, False, "this system cannot"),
    ],
)
def test_a_process_is_not_kept_on_a_core_where_it_would_be_worse_off(
    processes: int, usable: int, quota: float, green: bool, why: str
) -> None:
    assert cores.objection(processes, usable, quota, green=green) == why


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({}, math.inf),
        ({"proc/self/cgroup": "0::/\n"}, math.inf),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}, math.inf),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "150000 100000\n"}, 1.5),
        (  # a group in the middle has the limit
            {
                "proc/self/cgroup": "0::/pod/app/worker\n",
                "sys/fs/cgroup/pod/app/worker/cpu.max": "max 100000\n",
                "sys/fs/cgroup/pod/app/cpu.max": "50000 100000\n",
                "sys/fs/cgroup/pod/cpu.max": "400000 100000\n",
            },
            0.5,
        ),
        (  # version 1; a container sees its own group as the root, by another path
            {
                "proc/self/cgroup": "4:memory:/a\n2:cpu,cpuacct:/docker/1a2b\n0::/\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "200000\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            2.0,
        ),
        (
            {
                "proc/self/cgroup": "2:cpu:/\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            math.inf,
        ),
    ],
)
def test_a_quota_is_that_of_the_narrowest_control_group(
    tmp_path: Path, files: dict[str, str], quota: float
) -> None:
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    assert cores.quota(tmp_path) == quota


def test_only_cores_that_this_process_may_use_are_usable() -> None:
    expected = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []

    assert cores.usable_cores() == expected


def test_where_something_speaks_against_it_nothing_is_changed() -> None:
    before = cores.usable_cores()

    cores.pin(0, len(before) + 1)

    assert cores.usable_cores() == before


@pytest.mark.skipif(not cores.usable_cores(), reason="this system cannot keep a process on a core")
def test_a_sandbox_that_forbids_it_does_not_keep_a_worker_from_starting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def forbid(_thread: int, _cores: set[int]) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "sched_setaffinity", forbid)
    monkeypatch.setattr(cores, "quota", lambda: math.inf)
    monkeypatch.setattr(cores, "has_greenlets", lambda: False)

    cores.pin(0, 1)
