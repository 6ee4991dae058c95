"""The fixtures of `callbacks` for tests of applications; see docs/testing.md.

pytest imports this module in every run, also in those that do not use it. So it is no part of the
package, whose import brings Dramatiq and sets its global broker, and loads that in a fixture only.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from callbacks.testing import (
        CallbacksApp,
        CallbacksOutbox,
        CallbacksReceiver,
        EmbeddedServer,
    )


@pytest.fixture(scope="session")
def callbacks_server() -> Iterator[EmbeddedServer]:
    """An embedded server, one for each process of pytest; keeps nothing."""
    from callbacks.testing import EmbeddedServer  # noqa: PLC0415 - see above

    with EmbeddedServer() as server:
        yield server


@pytest.fixture
def callbacks_settings() -> dict[str, Any]:
    """Settings for all tests, by the names of their fields; to be overridden in a conftest.py."""
    return {}


@pytest.fixture
def callbacks_app(
    callbacks_server: EmbeddedServer, callbacks_settings: dict[str, Any]
) -> Iterator[CallbacksApp]:
    """What the application enqueues goes to the embedded server, empty at the start."""
    from callbacks.testing import CallbacksApp  # noqa: PLC0415 - see above

    with CallbacksApp(callbacks_server, **callbacks_settings) as app:
        yield app


@pytest.fixture
def callbacks_receiver(callbacks_app: CallbacksApp) -> Iterator[CallbacksReceiver]:
    """A receiver that checks signatures and answers 200, or as scripted."""
    from callbacks.testing import CallbacksReceiver  # noqa: PLC0415 - see above

    with CallbacksReceiver(callbacks_app) as receiver:
        yield receiver


@pytest.fixture
def callbacks_outbox(callbacks_settings: dict[str, Any]) -> Iterator[CallbacksOutbox]:
    """A sequence of what the application enqueues; nothing is sent, and no server is needed."""
    from callbacks.testing import CallbacksOutbox  # noqa: PLC0415 - see above

    with CallbacksOutbox(**callbacks_settings) as outbox:
        yield outbox
