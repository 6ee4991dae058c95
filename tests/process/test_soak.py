"""A minute of everything at once; `scripts/soak` does ten."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import REPO, clean_environment


@pytest.mark.timeout(420)
def test_nothing_is_lost_while_everything_that_takes_part_is_killed_stopped_and_restarted(
    tmp_path: Path,
) -> None:
    command = [sys.executable, "-m", "tests.soak", "--seed", "7", "--minutes", "1"]
    command += ["--count", "1500", "--folder", str(tmp_path)]
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
    diary = (tmp_path / "soak.log").read_text()
    assert soak.returncode == 0, output + diary
    assert "Every promise was kept." in output
    assert diary.count("FAULT") >= 10
