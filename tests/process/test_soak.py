"""A minute of everything at once; `scripts/soak` does ten."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.soak.plan import CLUSTER_KINDS
from tests.support.processes import REPO, clean_environment


@pytest.mark.timeout(420)
def test_nothing_is_lost_while_everything_that_takes_part_is_killed_stopped_and_restarted(
    tmp_path: Path,
) -> None:
    _, diary = run_soak(tmp_path, "--minutes", "1", "--count", "1500")
    assert diary.count("FAULT") >= 10


@pytest.mark.long
@pytest.mark.timeout(420)
def test_nothing_acknowledged_is_lost_while_a_cluster_loses_moves_and_restarts_its_nodes(
    tmp_path: Path,
) -> None:
    words = ("--cluster", "--only-cluster", "--minutes", "0.3", "--count", "500")
    output, diary = run_soak(tmp_path, *words)
    for kind in CLUSTER_KINDS:
        assert f"FAULT {kind.value}" in diary, output


def run_soak(folder: Path, *words: str) -> tuple[str, str]:
    """Run a soak that has to keep every promise; what it printed, and its diary."""
    command = [sys.executable, "-m", "tests.soak", "--seed", "7", "--folder", str(folder), *words]
    with subprocess.Popen(
        command,
        env=clean_environment(),
        cwd=REPO,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as soak:
        try:
            output, _ = soak.communicate()
        finally:
            soak.terminate()  # on a timeout of this test: it ends its processes
    diary = (folder / "soak.log").read_text()
    assert soak.returncode == 0, output + diary
    assert "Every promise was kept." in output
    return output, diary
