"""An application's own session, with our guard, pinned addresses and a total deadline."""

from __future__ import annotations

import gzip
import pickle
import re
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
import requests
import trustme

from callbacks import BlockedURL, GuardedAdapter, ResponseTooLarge
from callbacks.cli.receiver import Receiver, Response
from callbacks.delivery import adapter
from tests.http import hostile
from tests.http.conftest import DEADLINE_S, LOOPBACK, SLACK_S
from tests.http.hostile import OK, Conversation, Hostile
from tests.http.test_addresses import PUBLIC, Connects, Names
from tests.http.test_tls import over_tls, server_context

HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"transfer-encoding: chunked\r\n\r\n"

MakeSession = Callable[..., requests.Session]


@pytest.fixture
def make_session() -> Iterator[MakeSession]:
    made: list[requests.Session] = []

    def make(**given: Any) -> requests.Session:
        session = requests.Session()
        session.trust_env = False
        guarded = GuardedAdapter(**{"allowed_networks": LOOPBACK} | given)
        session.mount("https://", guarded)
        session.mount("http://", guarded)
        made.append(session)
        return session

    yield make
    for session in made:
        session.close()


@pytest.fixture
def session(make_session: MakeSession) -> requests.Session:
    return make_session()


def test_a_session_sends_and_gets_a_whole_response(session: requests.Session) -> None:
    headers = (("Content-Type", "application/json; charset=utf-8"), ("X-A", "1"), ("x-a", "2"))
    reply = Response(201, headers, b'{"a": "\xc3\xa9"}')
    with Receiver(behaviour=lambda _: reply) as receiver:
        response = session.post(
            receiver.url("/a b"), params={"c": "d"}, json={"x": 1}, headers={"X-Y": "z"}
        )
        (hit,) = receiver.hits
    assert (response.status_code, response.reason, response.ok) == (201, "Created", True)
    assert response.json() == {"a": "\u00e9"}
    assert response.headers["x-a"] == "1, 2"
    assert response.url == receiver.url("/a%20b?c=d")
    assert (response.history, response.encoding) == ([], "utf-8")
    assert response.elapsed.total_seconds() > 0
    assert response.request.method == "POST"
    assert list(response.iter_content(4)) == [b'{"a"', b': "\xc3', b'\xa9"}']
    assert pickle.loads(pickle.dumps(response)).content == response.content
    assert (hit.method, hit.path, hit.body) == ("POST", "/a%20b?c=d", b'{"x": 1}')
    assert hit.headers["x-y"] == "z"
    assert hit.headers["accept-encoding"] == "identity"
    assert hit.headers["content-length"] == "8"


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_any_method_is_sent_on_one_connection(session: requests.Session, method: str) -> None:
    with Hostile(hostile.answers(OK, OK)) as server:
        for _ in range(2):
            assert session.request(method, server.url()).content == b"ok"
        assert len(server.conversations) == 1


def test_head_has_no_body_whatever_its_head_declares(session: requests.Session) -> None:
    with Hostile(hostile.answers(HEAD + b"content-length: 5\r\n\r\n")) as server:
        response = session.head(server.url())
        assert (response.content, response.headers["content-length"]) == (b"", "5")
        assert server.all_ended()


@pytest.mark.parametrize(
    ("reply", "content"),
    [
        (HEAD + b"\r\nuntil the end", b"until the end"),
        (b"HTTP/1.0 200 OK\r\n\r\nold", b"old"),
        (CHUNKED + b"3\r\nabc\r\n1 \r\nd\r\n0\r\nx: y\r\n\r\n", b"abcd"),
        (b"HTTP/1.1 204 No\r\ncontent-length: 5\r\n\r\n", b""),
    ],
)
def test_a_body_is_read_to_its_end(session: requests.Session, reply: bytes, content: bytes) -> None:
    with Hostile(hostile.answers_and_closes(reply)) as server:
        assert session.get(server.url()).content == content


def test_cookies_and_redirects_are_those_of_the_session(session: requests.Session) -> None:
    requests_seen: list[bytes] = []

    def script(talk: Conversation) -> None:
        requests_seen.append(talk.read_request())
        talk.send(
            b"HTTP/1.1 302 No\r\nset-cookie: a=b\r\nlocation: /x\r\ncontent-length: 0\r\n\r\n"
        )
        requests_seen.append(talk.read_request())
        talk.send(OK)

    with Hostile(script) as server:
        response = session.get(server.url())
    assert [each.status_code for each in response.history] == [302]
    assert response.history[0].cookies["a"] == "b"
    assert b"Cookie: a=b\r\n" in requests_seen[1]


def test_an_address_that_is_not_public_is_refused(make_session: MakeSession) -> None:
    connects = Connects()
    names = Names(**{"inner.example": [["10.0.0.1"]]})
    session = make_session(allowed_networks=(), resolve=names, connect=connects)
    for url in ("http://127.0.0.1/", "https://inner.example/", "http://169.254.169.254/latest"):
        with pytest.raises(BlockedURL, match="is not a public address") as caught:
            session.get(url, allow_redirects=True)
        assert caught.value.request.url == url
        assert isinstance(caught.value, requests.exceptions.InvalidURL)
    assert connects.calls == []


def test_a_redirect_to_an_inner_address_is_refused(make_session: MakeSession) -> None:
    moved = b"HTTP/1.1 302 No\r\nlocation: http://127.0.0.1/\r\ncontent-length: 0\r\n\r\n"
    with Hostile(hostile.answers(moved)) as server:
        connects = Connects(server.port)
        names = Names(**{"customer.example": [[PUBLIC]]})
        session = make_session(allowed_networks=(), resolve=names, connect=connects)
        with pytest.raises(BlockedURL):
            session.get("http://customer.example/")
    assert connects.calls == [IPv4Address(PUBLIC)]


def test_the_address_that_was_checked_is_connected_to(make_session: MakeSession) -> None:
    with Hostile(hostile.answers_and_closes(OK)) as server:
        connects = Connects(server.port)
        names = Names(**{"rebind.example": [[PUBLIC], ["127.0.0.1"]]})
        session = make_session(allowed_networks=(), resolve=names, connect=connects)
        assert session.get("http://rebind.example/").content == b"ok"
    assert names.asked == ["rebind.example"]
    assert connects.calls == [IPv4Address(PUBLIC)]


def test_allowed_networks_may_be_text() -> None:
    with Hostile(hostile.answers(OK)) as server, requests.Session() as session:
        session.trust_env = False
        session.mount("http://", GuardedAdapter(allowed_networks=["127.0.0.0/8"]))
        assert session.get(server.url()).content == b"ok"


@pytest.mark.parametrize("name", ["connect_timeout", "read_timeout", "deadline"])
@pytest.mark.parametrize("seconds", [0, -1, None, "5", float("nan")])
def test_a_time_that_is_none_is_refused_at_once(name: str, seconds: Any) -> None:
    with pytest.raises(ValueError, match="expected seconds above 0"):
        GuardedAdapter(**{name: seconds})


def test_one_text_is_no_list_of_networks() -> None:
    with pytest.raises(TypeError, match=r"'127\.0\.0\.0/8': expected a list"):
        GuardedAdapter(allowed_networks="127.0.0.0/8")


# Each with the error that `requests` would raise for it.
FAULTS: dict[str, tuple[hostile.Script, type[Exception]]] = {
    "silence": (hostile.silence, requests.exceptions.ReadTimeout),
    "close": (hostile.closes, requests.exceptions.ConnectionError),
    "reset": (hostile.answers_and_resets(b""), requests.exceptions.ConnectionError),
    "no HTTP": (hostile.answers(b"SSH-2.0-x\r\n"), requests.exceptions.ConnectionError),
    "endless head": (hostile.repeats(HEAD, b"x: y\r\n"), requests.exceptions.ConnectionError),
    "two lengths": (
        hostile.answers(HEAD + b"content-length: 2\r\ncontent-length: 3\r\n\r\nok"),
        requests.exceptions.ChunkedEncodingError,
    ),
    "truncated": (
        hostile.answers_and_closes(HEAD + b"content-length: 9\r\n\r\nabc"),
        requests.exceptions.ChunkedEncodingError,
    ),
    "truncated chunk": (
        hostile.answers_and_closes(CHUNKED + b"9\r\nabc"),
        requests.exceptions.ChunkedEncodingError,
    ),
    "bad chunk": (
        hostile.answers(CHUNKED + b"xyz\r\n"),
        requests.exceptions.ChunkedEncodingError,
    ),
    "reset in the body": (
        hostile.answers_and_resets(HEAD + b"content-length: 9\r\n\r\nabc"),
        requests.exceptions.ConnectionError,
    ),
    "dripped body": (
        hostile.drips(HEAD + b"content-length: 99\r\n\r\n", b"z" * 99),
        requests.exceptions.ReadTimeout,
    ),
    "endless chunks": (hostile.repeats(CHUNKED, b"1\r\nz\r\n" * 500), ResponseTooLarge),
    "endless body": (hostile.repeats(HEAD + b"\r\n", b"z" * 9_999), ResponseTooLarge),
    "100 MB": (hostile.megabytes(100), ResponseTooLarge),
    "gzip": (hostile.answers(hostile.gzip_bomb()), requests.exceptions.ContentDecodingError),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_an_error_of_requests_within_the_deadline(
    make_session: MakeSession, name: str
) -> None:
    script, error = FAULTS[name]
    session = make_session(read_timeout=30, deadline=DEADLINE_S)
    with Hostile(script) as server:
        started = time.monotonic()
        with pytest.raises(requests.RequestException) as caught:
            session.get(server.url("/planted-path"))
        assert time.monotonic() - started < DEADLINE_S + SLACK_S
        assert server.all_ended()
    assert type(caught.value) is error
    assert caught.value.request.url == server.url("/planted-path")
    assert "planted" not in str(caught.value)


def test_a_body_is_as_long_as_allowed_and_no_longer(make_session: MakeSession) -> None:
    session = make_session(max_response_bytes=100)
    for size in (100, 101):
        with Receiver(behaviour=lambda _, size=size: Response(body=bytes(size))) as receiver:
            if size == 100:
                assert len(session.get(receiver.url()).content) == 100
                continue
            with pytest.raises(ResponseTooLarge, match="over 100 bytes"):
                session.get(receiver.url())


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (ConnectionRefusedError(111, "Connection refused"), requests.exceptions.ConnectionError),
        (TimeoutError("timed out"), requests.exceptions.ConnectTimeout),
    ],
)
def test_what_a_failed_connection_raises(
    make_session: MakeSession, error: OSError, raised: type[Exception]
) -> None:
    names = Names(**{"down.example": [[PUBLIC]]})
    session = make_session(allowed_networks=(), resolve=names, connect=Connects(v4=error))
    with pytest.raises(requests.exceptions.ConnectionError) as caught:
        session.get("http://down.example/")
    assert type(caught.value) is raised


def test_a_name_without_addresses_is_a_connection_error(make_session: MakeSession) -> None:
    session = make_session(resolve=Names(**{"no.example": [[]]}))
    with pytest.raises(requests.exceptions.ConnectionError, match="the name has no address"):
        session.get("http://no.example/")


def test_a_lookup_that_hangs_is_a_connect_timeout(make_session: MakeSession) -> None:
    released = threading.Event()

    def hang(_host: str, _port: int) -> list[str]:
        released.wait(30)
        return [PUBLIC]

    session = make_session(resolve=hang, deadline=0.2)
    with pytest.raises(requests.exceptions.ConnectTimeout):
        session.get("http://slow.example/")
    released.set()


@pytest.mark.parametrize("timeout", [0.2, (None, 0.2), (30, 0.2)])
def test_the_timeout_of_a_call_is_kept(make_session: MakeSession, timeout: Any) -> None:
    session = make_session(read_timeout=30, deadline=30)
    with Hostile(hostile.silence) as server:
        started = time.monotonic()
        with pytest.raises(requests.exceptions.ReadTimeout, match=r"sent nothing for 0\.2 s"):
            session.get(server.url(), timeout=timeout)
        assert time.monotonic() - started < 0.2 + SLACK_S


def test_the_connect_timeout_of_a_call_is_kept(make_session: MakeSession) -> None:
    given: list[float] = []

    def connect(_address: Any, _port: int, timeout_s: float) -> Any:
        given.append(timeout_s)
        raise TimeoutError

    session = make_session(connect=connect)
    for timeout, expected_s in ((2, 2), ((1, 5), 1), (None, 3), (60, 10)):
        with pytest.raises(requests.exceptions.ConnectTimeout):
            session.get("http://127.0.0.1/", timeout=timeout)
        assert given.pop() == pytest.approx(expected_s, abs=0.5)


def test_a_connection_cut_by_the_deadline_tells_the_time_it_had(make_session: MakeSession) -> None:
    def connect(_address: Any, _port: int, _timeout_s: float) -> Any:
        raise TimeoutError

    session = make_session(connect=connect, connect_timeout=3, deadline=2)
    with pytest.raises(requests.exceptions.ConnectTimeout, match=r"within [0-2](\.\d+)? s"):
        session.get("http://127.0.0.1/")


def test_a_certificate_is_verified(
    make_session: MakeSession, ca: trustme.CA, trusting: ssl.SSLContext
) -> None:
    context = server_context(ca.issue_cert("customer.example"))
    given: dict[str, Any] = {"resolve": lambda _host, _port: ["127.0.0.1"]}
    with Hostile(over_tls(context, hostile.answers(OK))) as server:
        url = server.url(scheme="https", host="customer.example")
        with pytest.raises(requests.exceptions.SSLError, match="certificate was refused"):
            make_session(**given).get(url)
        assert make_session(tls_context=trusting, **given).get(url).content == b"ok"


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"stream": True}, "stream=True: "),
        ({"verify": False}, "verify=False: "),
        ({"verify": "/ca.pem"}, "verify='/ca.pem': "),
        ({"cert": "/cert.pem"}, "cert: "),
        ({"proxies": {"http": "http://127.0.0.1:1"}}, "proxies: "),
        ({"data": iter([b"x"])}, "data: "),
        ({"headers": {"Host": "x"}}, "headers: Host "),
        ({"timeout": 0}, "timeout=0: "),
        ({"timeout": (1, "x")}, "timeout="),
        ({"timeout": (1, 2, 3)}, "timeout="),
    ],
)
def test_what_it_cannot_do_is_refused_in_one_line(
    session: requests.Session, options: dict[str, Any], line: str
) -> None:
    with Hostile(hostile.answers(OK)) as server:
        with pytest.raises(ValueError, match=line) as caught:
            session.post(server.url(), **options)
        assert server.conversations == []
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("method", ["CONNECT", "GET /x HTTP/1.1\r\nx: y\r\n\r\nGET", ""])
def test_a_method_is_one_word(session: requests.Session, method: str) -> None:
    with pytest.raises(ValueError, match="method: "):
        session.request(method, "http://127.0.0.1:1/")


def test_a_ca_bundle_of_the_environment_is_refused(
    session: requests.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/planted.pem")
    session.trust_env = True
    with pytest.raises(ValueError, match="set trust_env = False"):
        session.get("http://127.0.0.1:1/")


def test_a_proxy_of_the_environment_is_refused_and_can_be_left_out(
    session: requests.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("no_proxy", "NO_PROXY", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    session.trust_env = True
    with Hostile(hostile.silence) as proxy, Hostile(hostile.answers(OK)) as server:
        monkeypatch.setenv("http_proxy", proxy.url())
        with pytest.raises(ValueError, match="set trust_env = False"):
            session.get(server.url())
        session.trust_env = False
        assert session.get(server.url()).content == b"ok"
        assert proxy.conversations == []


@pytest.mark.parametrize("url", ["http://user:planted@127.0.0.1/", "http://127.1/"])
def test_a_url_that_enqueue_would_refuse_is_an_invalid_url(
    session: requests.Session, url: str
) -> None:
    with pytest.raises(requests.exceptions.InvalidURL) as caught:
        session.get(url)
    assert not isinstance(caught.value, BlockedURL)
    assert "planted" not in str(caught.value)


def test_a_header_with_a_line_break_is_refused(session: requests.Session) -> None:
    guarded = session.get_adapter("http://127.0.0.1/")
    for headers in ({"x": "a\r\ny: b"}, {"x\n": "a"}, {" x": "a"}, {"": "a"}):
        request = requests.Request("GET", "http://127.0.0.1:1/").prepare()
        request.headers.update(headers)
        with pytest.raises(requests.exceptions.InvalidHeader):
            guarded.send(request)


def test_threads_share_one_session(session: requests.Session) -> None:
    def behave(hit: Any) -> Response:
        return Response(body=hit.body)

    with Receiver(behaviour=behave) as receiver, ThreadPoolExecutor(16) as pool:
        bodies = [str(number).encode() for number in range(200)]
        answers = pool.map(lambda body: session.post(receiver.url(), data=body), bodies)
        assert [answer.content for answer in answers] == bodies


def test_what_is_gzip_is_never_unpacked(session: requests.Session) -> None:
    reply = Response(headers=(("content-encoding", "gzip"),), body=gzip.compress(b"x"))
    with (
        Receiver(behaviour=lambda _: reply) as receiver,
        pytest.raises(requests.exceptions.ContentDecodingError, match="must not be"),
    ):
        session.get(receiver.url())


def test_the_documented_example_does_what_it_says() -> None:
    text = (Path(__file__).parents[2] / "docs/requests.md").read_text("utf-8")
    (example,) = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(example, "docs/requests.md", "exec"), names)
    with Receiver(behaviour=lambda hit: Response(404 if hit.path == "/no" else 200)) as receiver:
        assert names["problem_with"](receiver.url()) == "it leads into a private network"
        names["session"].mount("http://", GuardedAdapter(allowed_networks=LOOPBACK))
        assert names["problem_with"](receiver.url()) is None
        assert names["problem_with"](receiver.url("/no")) == "it answers 404"
        assert names["problem_with"]("http://a..example/").startswith("the URL cannot be sent to")
        assert [hit.body for hit in receiver.hits] == [b'{"type": "ping"}'] * 2
    names["session"].close()


def test_every_error_is_documented() -> None:
    text = (Path(__file__).parents[2] / "docs/requests.md").read_text("utf-8")
    told = set(re.findall(r"^\| `(?:callbacks\.)?(\w+)`", text, re.MULTILINE))
    raised = {kind.__name__ for kind in adapter._ERRORS.values()}
    raised |= {"ResponseTooLarge", "InvalidHeader", "ValueError"}
    raised |= {"ChunkedEncodingError", "ContentDecodingError"}
    assert told == raised
