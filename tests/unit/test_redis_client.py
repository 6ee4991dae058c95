"""Which parts of a Redis URL and of the settings reach the connections."""

from __future__ import annotations

import ssl
from typing import Any

import pytest
from redis.connection import Connection, SSLConnection, UnixDomainSocketConnection

from callbacks.batcher.client import connect
from callbacks.settings import load_settings


def made(url: str, **more: str) -> Any:
    """A connection as the pool makes it, not open yet."""
    settings = load_settings({"REDIS_URL": url, "CALLBACKS_REDIS_TIMEOUT": "1.5"} | more)
    return connect(settings).connection_pool.make_connection()


@pytest.mark.parametrize(
    ("url", "kind", "db"),
    [
        ("redis://h/2", Connection, 2),
        ("redis://h?db=3", Connection, 3),
        ("rediss://h/4", SSLConnection, 4),
        ("unix:///run/redis.sock?db=5", UnixDomainSocketConnection, 5),
    ],
)
def test_each_form_of_a_url_leads_to_its_kind_of_connection(url: str, kind: type, db: int) -> None:
    connection = made(url)
    assert isinstance(connection, kind)
    assert connection.db == db
    assert connection.socket_timeout == connection.socket_connect_timeout == 1.5
    assert connection.protocol == 2


def test_certificates_named_in_a_url_are_used_and_the_server_is_verified() -> None:
    query = "ssl_ca_certs=/ca.pem&ssl_certfile=/me.pem&ssl_keyfile=/me.key"
    connection = made(f"rediss://h/0?{query}")
    assert (connection.ca_certs, connection.certfile, connection.keyfile) == (
        "/ca.pem",
        "/me.pem",
        "/me.key",
    )
    assert (connection.cert_reqs, connection.check_hostname) == (ssl.CERT_REQUIRED, True)


def test_a_server_whose_certificate_is_self_signed_can_be_left_unverified() -> None:
    connection = made("rediss://h/0", CALLBACKS_REDIS_TLS_VERIFY="false")
    assert (connection.cert_reqs, connection.check_hostname) == (ssl.CERT_NONE, False)
