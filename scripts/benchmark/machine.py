"""The machine this was measured on, in one line."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime

import psutil


def machine() -> str:
    """The date and the size of this machine."""
    memory = psutil.virtual_memory().total / 2**30
    load = os.getloadavg()[0]
    day = datetime.now(UTC).date().isoformat()
    return (
        f"{day}, {os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()}"
        f" {platform.machine()}, Python {platform.python_version()}, load {load:.1f} at the start"
    )
