"""A transport that may reach loopback, with timeouts that suit a busy machine."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from ipaddress import ip_network
from typing import Any

import pytest
import trustme

from callbacks.delivery.adapter import GuardedAdapter
from callbacks.delivery.transport import Transport

LOOPBACK = (ip_network("127.0.0.0/8"), ip_network("::1/128"))
DEADLINE_S = 1.0  # where a test expects it; long enough for a busy machine
SLACK_S = 3.0  # what a busy machine may add

MakeTransport = Callable[..., Transport]


@pytest.fixture
def make_transport() -> Iterator[MakeTransport]:
    made: list[Transport] = []

    def make(**given: Any) -> Transport:
        patient = {"connect_timeout": 5, "read_timeout": 5, "deadline": 10}
        bounds = {"allowed_networks": LOOPBACK, "max_response_bytes": 65_536}
        made.append(Transport(GuardedAdapter(**patient | bounds | given)))
        return made[-1]

    yield make
    for transport in made:
        transport.close()


@pytest.fixture
def transport(make_transport: MakeTransport) -> Transport:
    return make_transport()


@pytest.fixture(scope="session")
def ca() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="session")
def trusting(ca: trustme.CA) -> ssl.SSLContext:
    """A client's context that trusts only the tests' CA."""
    context = ssl.create_default_context()
    ca.configure_trust(context)
    return context
