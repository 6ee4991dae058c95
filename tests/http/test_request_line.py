"""The stored URL is sent byte for byte, to the host that it names."""

from __future__ import annotations

import queue
import socket
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from urllib.parse import urlsplit

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from callbacks.delivery.callback import AICallback
from callbacks.model import Request
from callbacks.settings import Settings
from tests.http.conftest import MakeTransport
from tests.http.hostile import OK, Conversation, Hostile

# It ends up on loopback anyway.
EVERYWHERE = (ip_network("0.0.0.0/0"), ip_network("::/0"))

hosts = st.one_of(
    st.from_regex(r"[a-zA-Z0-9]([a-zA-Z0-9-]{0,9}[a-zA-Z0-9])?\.[a-zA-Z]{2,5}\.?", fullmatch=True),
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=6).map(lambda address: f"[{address.exploded}]"),
    st.sampled_from(["bücher.example", "ΠΑΡΆΔΕΙΓΜΑ.example", "my_service"]),
)
ports = st.one_of(
    st.just(""), st.sampled_from([":80", ":443"]), st.integers(1, 65_535).map(":{}".format)
)
# Sequences that parsers and clients tend to rewrite.
pieces = st.one_of(
    st.sampled_from(
        ["/", "//", "..", ".", "%2e", "%2E%2e", "%7e", "~", "%2F", "%2f", "%", "%zz", "%25"]
    ),
    st.sampled_from(
        ["?", "&", "=", ";", "+", "%20", "[]", "{}", "|", "^", "ü", "%C3%BC", "@", ":", "'"]
    ),
    st.text(st.characters(exclude_categories=("C", "Z"), exclude_characters="\\"), max_size=5),
)
rests = st.lists(pieces, max_size=12).map("".join).map(lambda rest: "/" + rest if rest else "")
urls = st.builds("{}://{}{}{}".format, st.sampled_from(["http", "HTTP"]), hosts, ports, rests)


class Raw:
    """A receiver that records the bytes of each head, and stands in for all hosts."""

    def __init__(self) -> None:
        self.heads: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self.asked: list[tuple[str, int]] = []
        self.connected: list[tuple[IPv4Address | IPv6Address, int]] = []
        self.server = Hostile(self._serve)

    def resolve(self, host: str, port: int) -> list[str]:
        self.asked.append((host, port))
        return ["93.184.216.34"]

    def connect(
        self, address: IPv4Address | IPv6Address, port: int, timeout_s: float
    ) -> socket.socket:
        self.connected.append((address, port))
        return socket.create_connection(("127.0.0.1", self.server.port), timeout_s)

    def _serve(self, talk: Conversation) -> None:
        while True:
            self.heads.put(talk.read_request())
            talk.send(OK.replace(b"OK\r\n", b"OK\r\nconnection: close\r\n"))

    def take(self) -> tuple[str, str]:
        """The request target and the Host field of the next request."""
        head = self.heads.get(timeout=10).decode("ascii")
        line, *fields = head.partition("\r\n\r\n")[0].split("\r\n")
        method, target, version = line.split(" ")
        assert (method, version) == ("POST", "HTTP/1.1")
        (host,) = [field[6:] for field in fields if field.lower().startswith("host: ")]
        return target, host


@pytest.fixture
def raw() -> Iterator[Raw]:
    receiver = Raw()
    with receiver.server:
        yield receiver


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(url=urls)
def test_what_is_stored_is_on_the_wire_and_the_destination_is_where_it_goes(
    make_transport: MakeTransport, raw: Raw, url: str
) -> None:
    raw.asked.clear()
    raw.connected.clear()
    transport = make_transport(
        allowed_networks=EVERYWHERE, resolve=raw.resolve, connect=raw.connect
    )
    callback = AICallback(url, 1, settings=Settings())
    stored = callback.request.callback_url

    assert callback.send(sender=transport).status == 200
    target, host = raw.take()
    assert f"http://{host}{target}" == stored
    ((address, port),) = raw.connected
    destination = urlsplit(callback.request.destination)
    assert destination.port == port
    if raw.asked:
        assert raw.asked == [(destination.hostname, port)]
    else:
        named = ip_address(destination.hostname or "")
        assert address in {named, getattr(named, "ipv4_mapped", None)}
    transport.close()


@pytest.mark.parametrize(
    ("rest", "target"),
    [
        ("/x/../y?b=%7e", "/x/../y?b=%7e"),
        ("/%2e%2e/secret", "/%2e%2e/secret"),
        ("//a//b", "//a//b"),
        ("/?", "/?"),
        ("/a?b=c?d=%2F%2f", "/a?b=c?d=%2F%2f"),
        ("/%C3%BC/%c3%bc", "/%C3%BC/%c3%bc"),
        ("/100%?a=%zz", "/100%25?a=%25zz"),  # as stored by an earlier release
    ],
)
def test_a_url_that_is_stored_already_is_sent(
    make_transport: MakeTransport, raw: Raw, rest: str, target: str
) -> None:
    destination = "http://a.example:8080"
    request = Request(f"{destination}{rest}", destination, "production", (), b"{}")
    transport = make_transport(allowed_networks=(), resolve=raw.resolve, connect=raw.connect)
    callback = AICallback.stored("c-1", request, Settings())

    assert callback.send(sender=transport).status == 200
    assert raw.take() == (target, "a.example:8080")
    assert urlsplit(request.callback_url).port == raw.connected[0][1]
