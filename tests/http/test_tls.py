"""TLS is always verified: certificate, name, dates, and no version before 1.2."""

from __future__ import annotations

import contextlib
import datetime as dt
import socket
import ssl
import time
import warnings
from collections.abc import Callable

import pytest
import trustme

from callbacks.cli.receiver import Receiver
from callbacks.delivery.adapter import GuardedAdapter, default_tls_context
from callbacks.delivery.deadline import Deadline, Limits, Stopwatch
from callbacks.delivery.deadline_socket import DeadlineSocket
from callbacks.delivery.transport import Transport
from callbacks.model import Reason
from tests.http import hostile
from tests.http.conftest import DEADLINE_S, SLACK_S, MakeTransport
from tests.http.hostile import OK, Conversation, Hostile, Script


def server_context(cert: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    cert.configure_cert(context)
    return context


def over_tls(context: ssl.SSLContext, script: Script) -> Script:
    """The script after a handshake."""

    def wrapped(talk: Conversation) -> None:
        talk.sock = context.wrap_socket(talk.sock, server_side=True)
        with talk.sock:
            script(talk)
            talk.stall()

    return wrapped


@pytest.fixture
def secure(make_transport: MakeTransport, trusting: ssl.SSLContext) -> Transport:
    return make_transport(tls_context=trusting, resolve=lambda _host, _port: ["127.0.0.1"])


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_trusted_receiver_is_sent_to_on_one_connection(
    secure: Transport, ca: trustme.CA, version: ssl.TLSVersion
) -> None:
    context = server_context(ca.issue_cert("customer.example"))
    context.minimum_version = context.maximum_version = version
    with Hostile(over_tls(context, hostile.answers(OK, OK, OK))) as server:
        for _ in range(3):
            url = server.url(scheme="https", host="customer.example")
            assert secure.post(url, {}, b"{}").status == 200
        assert len(server.conversations) == 1


def test_the_handshake_is_a_step_of_its_own(secure: Transport, ca: trustme.CA) -> None:
    context = server_context(ca.issue_cert("customer.example"))

    def slowly(talk: Conversation) -> None:
        time.sleep(0.1)
        over_tls(context, hostile.answers(OK))(talk)

    with Hostile(slowly) as server:
        answer = secure.post(server.url(scheme="https", host="customer.example"), {}, b"{}")
    assert answer.status == 200
    assert answer.steps
    assert 0.05 <= answer.steps.tls <= answer.duration


def test_a_receiver_with_an_address_in_its_certificate_is_sent_to(
    secure: Transport, ca: trustme.CA
) -> None:
    with Receiver(tls=server_context(ca.issue_cert("127.0.0.1"))) as receiver:
        assert secure.post(receiver.url("/hook"), {}, b"{}").status == 200
        assert receiver.hits[0].path == "/hook"
        assert receiver.hits[0].headers["host"] == f"127.0.0.1:{receiver.port}"


def test_the_name_is_sent_for_the_certificate_to_be_chosen_by(
    secure: Transport, ca: trustme.CA
) -> None:
    names: list[str | None] = []
    context = server_context(ca.issue_cert("customer.example"))
    context.sni_callback = lambda _sock, name, _context: names.append(name)
    with Hostile(over_tls(context, hostile.answers(OK))) as server:
        url = server.url(scheme="https", host="Customer.Example.")
        assert secure.post(url, {}, b"{}").status == 200
    assert names == ["customer.example"]


@pytest.mark.parametrize("name", ["other.example", "example", "a.customer.example", "127.0.0.1"])
def test_a_certificate_for_another_name_is_refused(
    secure: Transport, ca: trustme.CA, name: str
) -> None:
    refused(secure, ca.issue_cert(name), "certificate was refused")


def test_a_common_name_alone_is_no_name(secure: Transport, ca: trustme.CA) -> None:
    cert = ca.issue_cert("other.example", common_name="customer.example")
    refused(secure, cert, "certificate was refused")


def test_an_unknown_ca_is_refused(secure: Transport) -> None:
    refused(secure, trustme.CA().issue_cert("customer.example"), "certificate was refused")


def test_the_tests_ca_is_refused_by_default(make_transport: MakeTransport, ca: trustme.CA) -> None:
    transport = make_transport(resolve=lambda _host, _port: ["127.0.0.1"])
    refused(transport, ca.issue_cert("customer.example"), "certificate was refused")


def test_an_expired_certificate_is_refused(secure: Transport, ca: trustme.CA) -> None:
    yesterday = dt.datetime.now(dt.UTC) - dt.timedelta(days=1)
    cert = ca.issue_cert("customer.example", not_after=yesterday)
    refused(secure, cert, "certificate has expired")


def test_a_certificate_of_tomorrow_is_refused(secure: Transport, ca: trustme.CA) -> None:
    tomorrow = dt.datetime.now(dt.UTC) + dt.timedelta(days=1)
    cert = ca.issue_cert("customer.example", not_before=tomorrow)
    refused(secure, cert, "not yet valid")


def test_tls_1_1_is_refused(secure: Transport, ca: trustme.CA) -> None:
    context = server_context(ca.issue_cert("customer.example"))
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    with Hostile(over_tls(context, hostile.answers(OK))) as server:
        answer = secure.post(server.url(scheme="https", host="customer.example"), {}, b"{}")
    assert answer.fault is Reason.TLS


def refused(transport: Transport, cert: trustme.LeafCert, detail: str) -> None:
    requests: list[bytes] = []

    def script(talk: Conversation) -> None:
        requests.append(talk.read_request())

    with Hostile(over_tls(server_context(cert), script)) as server:
        answer = transport.post(server.url(scheme="https", host="customer.example"), {}, b"{}")
        assert server.all_ended()
    assert answer.fault is Reason.TLS
    assert detail in answer.detail
    assert requests == []


@pytest.mark.parametrize("bound", ["connect_timeout", "deadline"])
def test_a_stalled_handshake_ends_in_time(
    make_transport: MakeTransport, trusting: ssl.SSLContext, bound: str
) -> None:
    times = {"connect_timeout": 30.0, "read_timeout": 30.0, "deadline": 30.0, bound: DEADLINE_S}
    transport = make_transport(tls_context=trusting, **times)
    with Hostile(Conversation.stall) as server:
        started = time.monotonic()
        answer = transport.post(server.url(scheme="https"), {}, b"{}")
        assert time.monotonic() - started < DEADLINE_S + SLACK_S
        assert server.all_ended()
    assert answer.fault is Reason.TIMEOUT
    assert "TLS handshake" in answer.detail


def test_a_dripped_handshake_ends_in_time(
    make_transport: MakeTransport, trusting: ssl.SSLContext
) -> None:
    transport = make_transport(
        tls_context=trusting, connect_timeout=30, read_timeout=30, deadline=DEADLINE_S
    )

    def drip_a_long_record(talk: Conversation) -> None:
        talk.drip(b"\x16\x03\x03\x40\x00\x02\x00\x3f\xfc" + bytes(500))

    with Hostile(drip_a_long_record) as server:
        started = time.monotonic()
        assert transport.post(server.url(scheme="https"), {}, b"{}").fault is Reason.TIMEOUT
        assert time.monotonic() - started < DEADLINE_S + SLACK_S
        assert server.all_ended()


@pytest.mark.parametrize(
    ("script", "verdict"),
    [
        (hostile.drips(b"HTTP/1.1 200 OK\r\n", b"x: y\r\n" * 40), Reason.TIMEOUT),
        (hostile.drips(b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n", b"z" * 99), 200),
    ],
)
def test_a_reply_dripped_over_tls_ends_in_time(
    make_transport: MakeTransport,
    trusting: ssl.SSLContext,
    ca: trustme.CA,
    script: Script,
    verdict: int | Reason,
) -> None:
    transport = make_transport(tls_context=trusting, read_timeout=30, deadline=DEADLINE_S)
    with Hostile(over_tls(server_context(ca.issue_cert("127.0.0.1")), script)) as server:
        started = time.monotonic()
        answer = transport.post(server.url(scheme="https"), {}, b"{}")
        assert time.monotonic() - started < DEADLINE_S + SLACK_S
        assert server.all_ended()
    assert verdict in {answer.status, answer.fault}


def answers_hello(reply: bytes) -> Script:
    def script(talk: Conversation) -> None:
        talk.sock.recv(9_999)
        talk.send(reply)

    return script


def resets_after_hello(talk: Conversation) -> None:
    talk.sock.recv(9_999)
    talk.reset()


@pytest.mark.parametrize(
    ("script", "detail"),
    [
        (hostile.closes_at_once, "the receiver broke off the TLS handshake"),
        (resets_after_hello, "the receiver broke off the TLS handshake"),
        (answers_hello(b"220 smtp ready\r\n"), "TLS failed: wrong version number"),
        (answers_hello(b"HTTP/1.1 400 No\r\n\r\n"), "TLS failed: wrong version number"),
        (answers_hello(b"\x15\x03\x01\0\x02\x02\x28"), "TLS failed: "),  # handshake_failure
    ],
)
def test_what_is_no_tls_is_a_tls_fault(
    make_transport: MakeTransport, trusting: ssl.SSLContext, script: Script, detail: str
) -> None:
    transport = make_transport(tls_context=trusting)
    with Hostile(script) as server:
        answer = transport.post(server.url(scheme="https"), {}, b"{}")
    assert answer.fault is Reason.TLS
    assert answer.detail.startswith(detail)


@pytest.mark.parametrize("abrupt", [True, False])
def test_an_end_of_tls_before_the_reply_is_a_reset(
    secure: Transport, ca: trustme.CA, abrupt: bool
) -> None:
    def script(talk: Conversation) -> None:
        talk.read_request()
        if abrupt:
            talk.reset()
        else:
            talk.sock.unwrap()

    context = server_context(ca.issue_cert("127.0.0.1"))
    with Hostile(over_tls(context, script)) as server:
        assert secure.post(server.url(scheme="https"), {}, b"{}").fault is Reason.RESET


def test_extra_bytes_over_tls_close_the_connection(secure: Transport, ca: trustme.CA) -> None:
    context = server_context(ca.issue_cert("127.0.0.1"))
    with Hostile(over_tls(context, hostile.answers(OK + hostile.ERROR))) as server:
        for number in range(2):
            assert secure.post(server.url(scheme="https"), {}, b"{}").status == 200
            assert len(server.conversations) == number + 1


def test_bytes_that_openssl_holds_back_are_input(ca: trustme.CA, trusting: ssl.SSLContext) -> None:
    context = server_context(ca.issue_cert("127.0.0.1"))
    with Hostile(over_tls(context, lambda talk: talk.send(b"ab"))) as server:
        sock = socket.create_connection(("127.0.0.1", server.port))
        secure = DeadlineSocket(sock, Limits(5, 5, Deadline(10), Stopwatch()))
        with contextlib.closing(secure):
            secure.handshake(trusting, "127.0.0.1", timeout_s=5)
            assert secure.recv(1) == b"a"
            assert secure.has_input()
            assert secure.recv(1) == b"b"
            assert not secure.has_input()


def test_http_and_https_share_no_connection(make_transport: MakeTransport) -> None:
    transport = make_transport(connect_timeout=0.3)
    with Hostile(hostile.answers(OK)) as server:
        assert transport.post(server.url(), {}, b"{}").status == 200
        assert transport.post(server.url(scheme="https"), {}, b"{}").fault is not None
        assert len(server.conversations) == 2


def lax(change: Callable[[ssl.SSLContext], None]) -> ssl.SSLContext:
    context = ssl.create_default_context()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        change(context)
    return context


def without_verification(context: ssl.SSLContext) -> None:
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE


def without_names(context: ssl.SSLContext) -> None:
    context.check_hostname = False


def with_old_versions(context: ssl.SSLContext) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_1


@pytest.mark.parametrize("change", [without_verification, without_names, with_old_versions])
def test_a_lax_context_is_refused(change: Callable[[ssl.SSLContext], None]) -> None:
    with pytest.raises(ValueError, match="tls_context"):
        GuardedAdapter(tls_context=lax(change))


def test_the_default_context_takes_nothing_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: object, ca: trustme.CA
) -> None:
    log = f"{tmp_path}/keys"
    ca.cert_pem.write_to_path(f"{tmp_path}/ca.pem")
    for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.setenv(name, f"{tmp_path}/ca.pem")
    monkeypatch.setenv("SSLKEYLOGFILE", log)
    context = default_tls_context()
    assert context.keylog_filename is None
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    issuers = [str(cert["subject"]) for cert in context.get_ca_certs()]
    assert len(issuers) > 50
    assert not [each for each in issuers if "trustme" in each]
