"""The system's own threads and calls, also where gevent has put greenlets in their place.

In a worker of `dramatiq-gevent` all greenlets share one thread. What has to go on while that
thread is stuck, or blocks whoever calls it, needs a real one.
"""

from __future__ import annotations

import _thread
import sys
from importlib import import_module
from typing import Any


def native(module: str, name: str) -> Any:
    """What a module of the standard library has under a name, unpatched."""
    monkey = sys.modules.get("gevent.monkey")  # of an extra
    if monkey is not None:
        return monkey.get_original(module, name)
    return getattr(import_module(module), name)


def has_greenlets() -> bool:
    """Whether what this process takes for threads are greenlets."""
    return native("_thread", "get_ident") is not _thread.get_ident
