"""No packet goes to an address that is not public, however it is spelt or resolved.

Nothing here resolves a name on the network or connects to anything but loopback: resolver and
connect call are scripted, and the `only_loopback` fixture refuses everything else.
"""

from __future__ import annotations

import errno
import socket
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

import pytest

from callbacks.delivery.connection import Origin
from callbacks.delivery.daemon_pool import MAX_CALLS
from callbacks.delivery.deadline import Deadline
from callbacks.delivery.dialer import in_turn
from callbacks.delivery.dns import Lookups, system_addresses
from callbacks.delivery.guard import BlockedAddress
from callbacks.model import Reason
from tests.http import hostile
from tests.http.conftest import DEADLINE_S, LOOPBACK, SLACK_S, MakeTransport
from tests.http.hostile import OK, Hostile

Address = IPv4Address | IPv6Address
PUBLIC = "93.184.216.34"
PUBLIC_V6 = "2606:4700:4700::1111"


@pytest.fixture(autouse=True)
def only_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        assert ip_address(address[0]).is_loopback, f"a test would connect to {address}"
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


class Names:
    """A scripted resolver: the next answer for each name; numbers as the system reads them."""

    def __init__(self, **answers: Sequence[Sequence[str] | Exception]) -> None:
        self._answers = {name: list(each) for name, each in answers.items()}
        self.asked: list[str] = []

    def __call__(self, host: str, _port: int) -> Sequence[str]:
        self.asked.append(host)
        answers = self._answers.get(host)
        if answers is None:
            return self._number(host)
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _number(self, host: str) -> list[str]:
        try:
            return [socket.inet_ntoa(socket.inet_aton(host))]
        except OSError:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known") from None


class Connects:
    """A scripted connect call: it records the address, and connects to loopback instead."""

    def __init__(self, port: int = 0, **errors: OSError) -> None:
        self._port = port
        self._errors = errors
        self.calls: list[Address] = []

    def __call__(self, address: Address, _port: int, timeout_s: float) -> socket.socket:
        assert timeout_s <= 5
        self.calls.append(address)
        error = self._errors.get(f"v{address.version}")
        if error is not None:
            raise error
        return socket.create_connection(("127.0.0.1", self._port), timeout_s)


SPELLINGS = [
    "127.0.0.1",
    "127.1",
    "127.0.1",
    "127.255.255.254",
    "2130706433",
    "0x7f000001",
    "0x7f.1",
    "0X7F.0.0.1",
    "017700000001",
    "0177.0.0.1",
    "0177.1",
    "00000177.0x0.0.01",
    "0",
    "0.0.0.0",
    "127.0.0.1.",
    "127.1.",
    "\uff11\uff12\uff17.0.0.1",  # full-width digits
    "127\u30020\u30020\u30021",  # ideographic full stops
    "\u2460\u2461\u2466.0.0.1",  # circled digits
    "\u24eax7f.1",
    "localhost",
    "LOCALHOST",
    "localhost.",
    "loopback.customer.example",
    "%31%32%37.0.0.1",
    "127.0.0.1%00.example",
    "169.254.169.254",
    "2852039166",
    "0xa9fea9fe",
    "0251.0376.0251.0376",
    "169.254.43518",
    "metadata.customer.example",
    "[::1]",
    "[::]",
    "[0:0:0:0:0:0:0:1]",
    "[::127.0.0.1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::ffff:169.254.169.254]",
    "[0:0:0:0:0:ffff:a9fe:a9fe]",
    "[64:ff9b::7f00:1]",
    "[64:ff9b::169.254.169.254]",
    "[64:ff9b:1::7f00:1]",
    "[2002:7f00:1::]",
    "[2002:a9fe:a9fe::1]",
    "[2001:0:7f00:1::]",
    "[fe80::1]",
    "[fe80::1%25eth0]",
    "[fe80::1%eth0]",
    "[::1%25lo]",
    "[fd00:ec2::254]",
    "[ff02::1]",
    "[fec0::1]",
    "[3fff::1]",
    "10.0.0.1",
    "100.100.100.200",
    "168.63.129.16",
    "192.0.0.192",
    "192.168.1.1",
    "172.17.0.1",
    "224.0.0.1",
    "255.255.255.255",
    "240.0.0.1",
]

# Parsers disagree about the host of these; whichever it is, it must not be reached.
DISGUISES = [
    "http://public.example@127.0.0.1/",
    "http://127.0.0.1@localhost/",
    "http://public.example:80@127.0.0.1:80/",
    "http://127.0.0.1\\@localhost/",
    "http://localhost#@public.example/",
    "http://localhost?@public.example/",
    "http://localhost\t/",
    "http://127.0.0.1:80:80/",
    "http://127.0.0.1:99999/",
    "http:///127.0.0.1/",
    "http://",
    "http://[::1",
    "http://[127.0.0.1]/",
    "http://[::1]x/",
    "http://.127.0.0.1/",
    "http://*.127.0.0.1/",
    " http://127.0.0.1/",
    "http:127.0.0.1/",
]

WRONG_SCHEMES = ["ftp://8.8.8.8/", "file:///etc/passwd", "gopher://127.0.0.1/", "unix:///x", "x"]


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("host", SPELLINGS)
def test_no_spelling_of_an_inner_address_is_connected_to(
    make_transport: MakeTransport, scheme: str, host: str
) -> None:
    connects = Connects()
    names = Names(
        **{
            "localhost": [["127.0.0.1", "::1"]],
            "localhost.": [["127.0.0.1"]],
            "loopback.customer.example": [["127.0.0.1"]],
            "metadata.customer.example": [["169.254.169.254"]],
        }
    )
    transport = make_transport(allowed_networks=(), resolve=names, connect=connects)
    answer = transport.post(f"{scheme}://{host}/latest/meta-data", {}, b"{}")
    assert answer.fault in {Reason.BLOCKED_ADDRESS, Reason.DNS, Reason.PROTOCOL}
    with pytest.raises((BlockedAddress, socket.gaierror, UnicodeError)):  # if the URL were accepted
        transport.adapter._dialer.dial(
            Origin(scheme, host.strip("[]"), 80), transport.adapter.limits()
        )
    assert connects.calls == []


@pytest.mark.parametrize("url", DISGUISES)
def test_no_disguise_of_an_inner_address_is_connected_to(
    make_transport: MakeTransport, url: str
) -> None:
    connects = Connects()
    names = Names(localhost=[["127.0.0.1"]])
    transport = make_transport(allowed_networks=(), resolve=names, connect=connects)
    assert transport.post(url, {}, b"{}").fault in {
        Reason.BLOCKED_ADDRESS,
        Reason.DNS,
        Reason.PROTOCOL,
    }
    assert connects.calls == []


@pytest.mark.parametrize("url", WRONG_SCHEMES)
def test_only_http_and_https_are_sent_to(make_transport: MakeTransport, url: str) -> None:
    connects = Connects()
    transport = make_transport(resolve=Names(), connect=connects)
    assert transport.post(url, {}, b"{}").fault is Reason.PROTOCOL
    assert connects.calls == []


@pytest.mark.parametrize("host", ["127.1", "0x7f.1", "2130706433", "017700000001", "0"])
def test_the_system_reads_odd_numbers_as_addresses_and_they_are_refused(
    make_transport: MakeTransport, host: str
) -> None:
    connects = Connects()
    transport = make_transport(allowed_networks=(), connect=connects)
    with pytest.raises(BlockedAddress):
        transport.adapter._dialer.dial(Origin("http", host, 80), transport.adapter.limits())
    answer = transport.post(f"http://{host}/", {}, b"")
    assert answer.fault is Reason.PROTOCOL
    assert answer.detail.startswith("the URL cannot be sent to: it has a bad host: it ends in a")
    assert connects.calls == []


def test_a_public_name_is_connected_to_at_the_address_that_was_checked(
    make_transport: MakeTransport,
) -> None:
    requests: list[bytes] = []

    def script(talk: hostile.Conversation) -> None:
        requests.append(talk.read_request())
        talk.send(OK)

    with Hostile(script) as server:
        connects = Connects(server.port)
        names = Names(**{"customer.example": [[PUBLIC]]})
        transport = make_transport(allowed_networks=(), resolve=names, connect=connects)
        assert transport.post("http://customer.example/hook?x=1", {}, b"{}").status == 200
    assert connects.calls == [IPv4Address(PUBLIC)]
    assert b"\r\nHost: customer.example\r\n" in requests[0]
    assert requests[0].startswith(b"POST /hook?x=1 HTTP/1.1\r\n")


def test_an_ipv6_address_is_connected_to_as_it_is_and_named_in_brackets(
    make_transport: MakeTransport,
) -> None:
    requests: list[bytes] = []

    def script(talk: hostile.Conversation) -> None:
        requests.append(talk.read_request())
        talk.send(OK)

    with Hostile(script) as server:
        connects = Connects(server.port)
        transport = make_transport(allowed_networks=(), resolve=Names(), connect=connects)
        assert transport.post(f"http://[{PUBLIC_V6}]:8080/", {}, b"").status == 200
    assert connects.calls == [IPv6Address(PUBLIC_V6)]
    assert f"\r\nHost: [{PUBLIC_V6}]:8080\r\n".encode() in requests[0]


def test_a_name_that_turns_private_is_refused_at_its_next_connection(
    make_transport: MakeTransport,
) -> None:
    with Hostile(hostile.answers_and_closes(OK)) as server:
        connects = Connects(server.port)
        names = Names(**{"rebind.example": [[PUBLIC], ["127.0.0.1"]]})
        transport = make_transport(allowed_networks=(), resolve=names, connect=connects)
        assert transport.post("http://rebind.example/", {}, b"").status == 200
        wait_until(lambda: transport.adapter.idle_connections() == 0)  # the close has arrived
        answer = transport.post("http://rebind.example/", {}, b"")
    assert answer.fault is Reason.BLOCKED_ADDRESS
    assert answer.detail == "127.0.0.1 is not a public address"
    assert connects.calls == [IPv4Address(PUBLIC)]


def test_one_lookup_is_checked_and_connected_to_so_no_second_one_can_differ(
    make_transport: MakeTransport,
) -> None:
    with Hostile(hostile.answers(OK)) as server:
        connects = Connects(server.port)
        names = Names(**{"rebind.example": [[PUBLIC], ["127.0.0.1"]]})
        transport = make_transport(allowed_networks=(), resolve=names, connect=connects)
        assert transport.post("http://rebind.example/", {}, b"").status == 200
    assert names.asked == ["rebind.example"]
    assert connects.calls == [IPv4Address(PUBLIC)]


def test_a_kept_connection_needs_no_new_lookup(make_transport: MakeTransport) -> None:
    with Hostile(hostile.answers(OK, OK)) as server:
        names = Names(**{"customer.example": [[PUBLIC], ["127.0.0.1"]]})
        transport = make_transport(
            allowed_networks=(), resolve=names, connect=Connects(server.port)
        )
        for _ in range(2):
            assert transport.post("http://customer.example/", {}, b"").status == 200
    assert names.asked == ["customer.example"]


@pytest.mark.parametrize(
    "found",
    [
        [PUBLIC, "10.0.0.1"],
        ["10.0.0.1", PUBLIC],
        [PUBLIC, PUBLIC_V6, "::1"],
        [PUBLIC, "::ffff:127.0.0.1"],
        [PUBLIC_V6, "fe80::1%eth0"],
        [*[f"93.184.216.{number}" for number in range(99)], "192.168.0.1"],
    ],
)
def test_one_inner_address_among_public_ones_refuses_the_name(
    make_transport: MakeTransport, found: list[str]
) -> None:
    connects = Connects()
    names = Names(**{"mixed.example": [found]})
    transport = make_transport(allowed_networks=(), resolve=names, connect=connects)
    assert transport.post("http://mixed.example/", {}, b"").fault is Reason.BLOCKED_ADDRESS
    assert connects.calls == []


def test_a_redirect_to_an_inner_address_is_not_followed(make_transport: MakeTransport) -> None:
    moved = b"HTTP/1.1 307 No\r\nlocation: http://127.0.0.1/\r\ncontent-length: 0\r\n\r\n"
    with Hostile(hostile.answers(moved)) as server:
        connects = Connects(server.port)
        names = Names(**{"customer.example": [[PUBLIC]]})
        transport = make_transport(allowed_networks=(), resolve=names, connect=connects)
        assert transport.post("http://customer.example/", {}, b"").status == 307
    assert len(connects.calls) == 1


def test_allowed_networks_may_be_reached(make_transport: MakeTransport) -> None:
    with Hostile(hostile.answers(OK)) as server:
        transport = make_transport(allowed_networks=LOOPBACK)
        assert transport.post(server.url(), {}, b"").status == 200


def test_proxies_and_netrc_of_the_environment_are_ignored(
    make_transport: MakeTransport, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("default login planted password planted\n")
    monkeypatch.setenv("NETRC", str(netrc))
    requests: list[bytes] = []

    def script(talk: hostile.Conversation) -> None:
        requests.append(talk.read_request())
        talk.send(OK)

    with Hostile(hostile.silence) as proxy, Hostile(script) as server:
        for name in ("http_proxy", "https_proxy", "all_proxy"):
            for spelling in (name, name.upper()):
                monkeypatch.setenv(spelling, proxy.url())
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        assert make_transport().post(server.url("/hook"), {}, b"").status == 200
        assert proxy.conversations == []
    assert requests[0].startswith(b"POST /hook HTTP/1.1\r\n")
    assert b"authorization" not in requests[0].lower()


def test_a_url_with_user_info_is_not_sent_to(make_transport: MakeTransport) -> None:
    with Hostile(hostile.answers(OK)) as server:
        answer = make_transport().post(server.url(host="user:planted@127.0.0.1"), {}, b"")
        assert server.conversations == []
    assert answer.fault is Reason.PROTOCOL
    assert answer.detail.startswith("the URL cannot be sent to: it has user info")


def test_the_second_address_is_tried_where_the_first_fails(make_transport: MakeTransport) -> None:
    with Hostile(hostile.answers(OK)) as server:
        unreachable = OSError(errno.ENETUNREACH, "Network is unreachable")
        connects = Connects(server.port, v6=unreachable)
        names = Names(**{"both.example": [[PUBLIC_V6, "2606:4700::2", PUBLIC]]})
        transport = make_transport(allowed_networks=(), resolve=names, connect=connects)
        assert transport.post("http://both.example/", {}, b"").status == 200
    assert connects.calls == [IPv6Address(PUBLIC_V6), IPv4Address(PUBLIC)]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(errno.ENETUNREACH, "Network is unreachable"), Reason.CONNECT),
        (OSError(errno.EHOSTUNREACH, "No route to host"), Reason.CONNECT),
        (PermissionError(errno.EPERM, "Operation not permitted"), Reason.CONNECT),
        (ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"), Reason.CONNECT),
        (ConnectionResetError(errno.ECONNRESET, "Connection reset"), Reason.CONNECT),
        (TimeoutError("timed out"), Reason.TIMEOUT),
        (TimeoutError(errno.ETIMEDOUT, "Connection timed out"), Reason.TIMEOUT),
    ],
)
def test_what_a_failed_connection_means(
    make_transport: MakeTransport, error: OSError, reason: Reason
) -> None:
    connects = Connects(v4=error)
    names = Names(**{"down.example": [[f"93.184.216.{number}" for number in range(40)]]})
    transport = make_transport(allowed_networks=(), resolve=names, connect=connects)
    answer = transport.post("http://down.example/", {}, b"")
    assert answer.fault is reason
    assert len(connects.calls) == 4  # a name with many addresses is not tried for ever


@pytest.mark.parametrize(
    "answer",
    [
        socket.gaierror(socket.EAI_NONAME, "Name or service not known"),
        socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"),
        UnicodeError("label too long"),
        [],
    ],
)
def test_a_name_that_cannot_be_looked_up_is_a_dns_fault(
    make_transport: MakeTransport, answer: Any
) -> None:
    names = Names(**{"no.example": [answer]})
    transport = make_transport(resolve=names, connect=Connects())
    result = transport.post("http://no.example/", {}, b"")
    assert result.fault is Reason.DNS
    assert result.detail


@pytest.mark.parametrize("host", ["a" * 64 + ".example", "a..example", "xn--\u00e9.example"])
def test_a_name_that_is_none_is_not_looked_up(make_transport: MakeTransport, host: str) -> None:
    transport = make_transport(resolve=(names := Names()), connect=Connects())
    assert transport.post(f"http://{host}/", {}, b"").fault is Reason.PROTOCOL
    assert names.asked == []


def test_the_system_resolver_gives_an_address_as_it_is() -> None:
    assert system_addresses("127.0.0.1", 80) == ["127.0.0.1"]
    with pytest.raises(UnicodeError):
        system_addresses("bücher.example", 80)


def test_a_lookup_that_hangs_ends_with_the_attempt_and_takes_one_thread(
    make_transport: MakeTransport,
) -> None:
    release = threading.Event()
    asked: list[str] = []

    def hang(host: str, _port: int) -> list[str]:
        asked.append(host)
        release.wait(30)
        return [PUBLIC]

    connects = Connects()
    transport = make_transport(
        allowed_networks=(), resolve=hang, connect=connects, deadline=DEADLINE_S
    )
    try:
        with ThreadPoolExecutor(20) as pool:
            started = time.monotonic()
            posts = [
                pool.submit(transport.post, "http://slow.example/", {}, b"") for _ in range(20)
            ]
            answers = [post.result() for post in posts]
            assert time.monotonic() - started < DEADLINE_S + SLACK_S
    finally:
        release.set()
    assert {answer.fault for answer in answers} == {Reason.TIMEOUT}
    assert asked == ["slow.example"]
    assert connects.calls == []


def test_lookups_go_on_while_two_hundred_names_hang() -> None:
    release = threading.Event()

    def resolve(host: str, _port: int) -> list[str]:
        if host.startswith("h"):
            release.wait(30)
        return [PUBLIC]

    lookups = Lookups(resolve)
    with ThreadPoolExecutor(200) as pool:
        hanging = [pool.submit(lookups.addresses, f"h{n}", 80, Deadline(1)) for n in range(200)]
        wait_until(lambda: lookups.under_way() == MAX_CALLS // 2)
        with pytest.raises(socket.gaierror, match="too many"):
            lookups.addresses("new", 80, Deadline(0.05))
        for name in ("a", "b"):
            assert lookups.addresses(name, 80, Deadline(10), proven=True) == [PUBLIC]
        assert lookups.addresses("new", 80, Deadline(10)) == [PUBLIC]  # when they are abandoned
        faults = {type(each.exception()) for each in hanging}
    assert faults <= {TimeoutError, socket.gaierror}
    release.set()
    wait_until(lambda: lookups.under_way() == 0)


def test_lookups_at_once_are_bounded_and_one_that_ends_makes_room() -> None:
    release = {name: threading.Event() for name in ("a", "b")}

    def resolve(host: str, _port: int) -> list[str]:
        if host in release:
            release[host].wait(30)
        return [PUBLIC]

    lookups = Lookups(resolve, most=4)
    with ThreadPoolExecutor(3) as pool:
        hanging = [
            pool.submit(lookups.addresses, name, 80, Deadline(30)) for name in ("a", "b", "a")
        ]
        wait_until(lambda: lookups.under_way() == 2)
        with pytest.raises(socket.gaierror, match="too many"):
            lookups.addresses("c", 80, Deadline(0.05))
        release["a"].set()
        assert lookups.addresses("c", 80, Deadline(10)) == [PUBLIC]
        release["b"].set()
        assert [each.result() for each in hanging] == [[PUBLIC]] * 3
    wait_until(lambda: lookups.under_way() == 0)


def test_where_no_address_answers_the_fault_is_that_of_the_preferred_one(
    make_transport: MakeTransport,
) -> None:
    refused = ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")
    unreachable = OSError(errno.ENETUNREACH, "Network is unreachable")
    names = Names(**{"both.example": [[PUBLIC, PUBLIC_V6]]})
    connects = Connects(v4=refused, v6=unreachable)
    transport = make_transport(allowed_networks=(), resolve=names, connect=connects)
    assert transport.post("http://both.example/", {}, b"").detail == "Connection refused"


def test_an_answer_is_not_given_again_to_whoever_asks_next() -> None:
    answers = iter(range(300))
    lookups = Lookups(lambda _host, _port: [str(next(answers))])
    found = [lookups.addresses("a.example", 80, Deadline(10)) for _ in range(300)]
    assert found == [[str(number)] for number in range(300)]


def test_a_resolver_that_gives_up_its_thread_leaves_no_lookup_behind() -> None:
    def stop(_host: str, _port: int) -> list[str]:
        raise SystemExit

    lookups = Lookups(stop)
    with pytest.raises(SystemExit):
        lookups.addresses("a.example", 80, Deadline(10))
    assert lookups.under_way() == 0


def test_addresses_are_tried_with_both_families_in_turn() -> None:
    v4 = [IPv4Address(f"9.9.9.{number}") for number in range(5)]
    v6 = [IPv6Address(f"2606::{number}") for number in range(5)]
    assert in_turn([*v6, *v4]) == [v6[0], v4[0], v6[1], v4[1]]
    assert in_turn([*v4, *v6]) == [v4[0], v6[0], v4[1], v6[1]]
    assert in_turn(v4) == v4[:4]
    assert in_turn([v6[0], *v4]) == [v6[0], *v4[:3]]
    assert in_turn([]) == []


def wait_until(holds: Callable[[], bool], timeout_s: float = 5.0) -> None:
    ends_at = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < ends_at
        time.sleep(0.005)
