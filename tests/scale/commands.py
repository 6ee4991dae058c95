"""The commands an operator would use: when do they print their first output, and their last?"""

from __future__ import annotations

import selectors
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.scale.fill import destination, name
from tests.scale.gauge import Gauge
from tests.support.processes import REPO, clean_environment

COMMANDS: Final = (
    ("status",),
    ("list", "queued"),
    ("list", "queued", "--destination", destination(7)),
    ("list", "dead"),
    ("destinations",),
    ("destinations", "--json"),
    ("pause", destination(7)),
    ("resume", destination(7)),
    ("pause",),
    ("resume",),
    ("cancel", name(77)),
    ("dead", "show"),
    ("dead", "replay", "--destination", destination(7)),
    ("dead", "purge", "--all"),
    ("doctor",),
    ("audit",),
)
_PATIENCE_S: Final = 600.0


@dataclass
class Run:
    """One command, in seconds. `code` is None if it had to be killed."""

    first_s: float | None
    took_s: float
    code: int | None
    longest: tuple[float, str]


def run(command: tuple[str, ...], environ: Mapping[str, str], gauge: Gauge) -> Run:
    """Run it in a pipe, as a script would."""
    gauge.client.slowlog_reset()
    began = time.monotonic()
    with subprocess.Popen(
        [sys.executable, "-m", "callbacks", *command],
        env=clean_environment(**environ),
        cwd=Path(REPO),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        first_s = _first_output(process, began)
        took_s = time.monotonic() - began
        code = process.poll()
        process.kill()
    return Run(first_s, took_s, code, gauge.slowest())


def _first_output(process: subprocess.Popen[bytes], began: float) -> float | None:
    """Read all its output until it ends; return when the first came."""
    assert process.stdout is not None
    first_s = None
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while (left := began + _PATIENCE_S - time.monotonic()) > 0:
            if selector.select(left):
                first_s = first_s or time.monotonic() - began
                if not process.stdout.read1(1 << 20):
                    process.wait()
                    break
    return first_s
