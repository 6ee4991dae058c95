"""For tests of applications: what is enqueued, or the whole way to a receiver, in one thread.

The fixtures of the pytest plugin (module `pytest_callbacks`) hand these out:

- `CallbacksOutbox`: a sequence of what was enqueued; nothing is sent, and no server is needed.
- `CallbacksApp`: the real thing on an embedded server. `deliver_all` does the workers' duties in
  this thread, by a clock that can be moved.
- `CallbacksReceiver`: receives, checks signatures, and answers as scripted.

It uses the packages below and none of them knows of it: a running service has no switch that leads
here. See docs/testing.md.
"""

from __future__ import annotations

from callbacks.cli.receiver import Response
from callbacks.testing.app import CallbacksApp, adeliver_all, deliver_all
from callbacks.testing.clock import Clock
from callbacks.testing.expect import assert_delivered
from callbacks.testing.outbox import CallbacksOutbox
from callbacks.testing.receiver import CallbacksReceiver
from callbacks.testing.requests import Attempted, Enqueued, Received
from callbacks.testing.server import EmbeddedServer

__all__ = [
    "Attempted",
    "CallbacksApp",
    "CallbacksOutbox",
    "CallbacksReceiver",
    "Clock",
    "EmbeddedServer",
    "Enqueued",
    "Received",
    "Response",
    "adeliver_all",
    "assert_delivered",
    "deliver_all",
]
