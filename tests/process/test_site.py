"""The documentation builds without a warning: no broken link, no name that is described nowhere."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import REPO, clean_environment

pytest.importorskip("sphinx_click", reason="the extra docs is not installed")


def test_the_site_builds_strictly(tmp_path: Path) -> None:
    """As scripts/docs does."""
    command = re.findall(
        r"^sphinx-build (.+) docs build/docs ", (REPO / "scripts/docs").read_text(), re.MULTILINE
    )
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", *command[0].split(), "docs", str(tmp_path)],
        cwd=REPO, env=clean_environment(), capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip

    assert (done.returncode, done.stderr) == (0, "")
    assert "callbacks.enqueue" in (tmp_path / "python.html").read_text()
    assert 'id="callbacks-dead-replay"' in (tmp_path / "commands.html").read_text()
