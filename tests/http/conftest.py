"""A transport that may reach loopback, with times short enough for tests."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from ipaddress import ip_network
from typing import Any

import pytest
import trustme

from callbacks.guard import Guard
from callbacks.transport import Transport

LOOPBACK = Guard((ip_network("127.0.0.0/8"), ip_network("::1/128")))
CONNECT_S = 0.5
READ_S = 0.4
DEADLINE_S = 0.6
SLACK_S = 1.0  # what a busy machine may add

MakeTransport = Callable[..., Transport]


@pytest.fixture
def make_transport() -> Iterator[MakeTransport]:
    made: list[Transport] = []

    def make(**given: Any) -> Transport:
        defaults = {
            "guard": LOOPBACK,
            "connect_timeout": CONNECT_S,
            "read_timeout": READ_S,
            "deadline": DEADLINE_S,
        }
        made.append(Transport(**defaults | given))
        return made[-1]

    yield make
    for transport in made:
        transport.close()


@pytest.fixture
def transport(make_transport: MakeTransport) -> Transport:
    return make_transport()


@pytest.fixture
def patient(make_transport: MakeTransport) -> Transport:
    """One that waits long enough for whatever does come, on a busy machine too."""
    return make_transport(connect_timeout=5, read_timeout=5, deadline=10)


@pytest.fixture(scope="session")
def ca() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="session")
def trusting(ca: trustme.CA) -> ssl.SSLContext:
    """A client's context that trusts the tests' CA alone."""
    context = ssl.create_default_context()
    ca.configure_trust(context)
    return context
