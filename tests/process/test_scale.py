"""`scripts/scale` still calls every verb as it is; what it measures is for people to read."""

from __future__ import annotations

import subprocess
import sys

from callbacks.batcher.scripts import VERBS
from tests.support.processes import REPO, clean_environment


def test_it_measures_every_verb_of_a_callbacks_way() -> None:
    command = [sys.executable, "-m", "tests.scale", "--count", "10000", "--destinations", "500"]
    done = subprocess.run(
        [*command, "--commands", "0"],
        cwd=REPO,
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )
    assert done.stderr == ""
    assert done.returncode in {0, 1}, done.stdout  # 1: a busy machine held a script up
    for verb in ("enqueue", "claim", "begin", "settle", "release", "reclaim", "expire", "trim"):
        assert verb in VERBS
        assert f"│ {verb}" in done.stdout, done.stdout
