"""What `import callbacks` costs an application that only enqueues."""

from __future__ import annotations

import subprocess
import sys

#: Loaded where they are used: settings, the command, the status page, metrics.
LATER = (
    "pydantic",
    "click",
    "waitress",
    "prometheus_client",
    "requests",
    "httptools",
    "callbacks.cli",
    "callbacks.web",
)


def test_importing_the_package_loads_nothing_that_enqueueing_does_not_need() -> None:
    code = f"import sys, callbacks; print([n for n in {LATER!r} if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == "[]\n"
