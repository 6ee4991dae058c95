"""The demo is the first thing that people run."""

from __future__ import annotations

import subprocess
import sys

from tests.support.processes import clean_environment


def test_the_demo_ends_by_itself_with_numbers_that_add_up() -> None:
    command = [sys.executable, "-m", "callbacks", "demo", "--count", "40"]
    run = subprocess.run(
        command, env=clean_environment(), capture_output=True, text=True, timeout=110, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "the numbers add up" in run.stdout
    assert "the books balance" in run.stdout
    assert "`callbacks receiver`" in run.stdout
