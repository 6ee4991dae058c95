"""`callbacks send` sends one callback at once and tells what happened to it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest
from click.testing import CliRunner, Result

from callbacks.cli.main import main
from callbacks.cli.receiver import Hit, Receiver, Response
from callbacks.cli.secret import new_secret
from callbacks.delivery import trace
from callbacks.request.signature import verify
from tests.conftest import forget_runtime

SECRET = new_secret()

Send = Callable[..., Result]


@pytest.fixture
def send(monkeypatch: pytest.MonkeyPatch) -> Iterator[Send]:
    """Run the command with these settings, without a Redis."""
    forget = forget_runtime()
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1/0")
    monkeypatch.setenv("CALLBACKS_ALLOWED_NETWORKS", "127.0.0.0/8")

    def run(*words: str, **settings: str) -> Result:
        for name, value in settings.items():
            monkeypatch.setenv(f"CALLBACKS_{name.upper()}", value)
        forget()
        return CliRunner().invoke(main, ["send", *words])

    yield run
    forget()


def test_a_signed_ping_arrives_and_everything_is_told(send: Send) -> None:
    reply = Response(202, (("x-app", "yes"),))
    with Receiver(secrets=[SECRET], verify=verify, behaviour=lambda _: reply) as receiver:
        result = send(receiver.url("/hook?token=hunter2"), secret=SECRET)
        (hit,) = receiver.hits
    assert (result.exit_code, result.stderr) == (0, "")
    assert (hit.path, hit.signature_ok, hit.attempt) == ("/hook?token=hunter2", True, 1)
    assert json.loads(hit.body)["type"] == "ping"
    lines = result.stdout.splitlines()
    assert lines[0] == f"POST {receiver.url('/hook')}"
    assert f"  webhook-signature: {hit.headers['webhook-signature']}" in lines
    assert f"  {hit.body.decode()}" in lines
    assert "guard: 127.0.0.1: not public, but allowed (127.0.0.0/8)" in lines
    assert "answer: 202 Accepted" in lines
    assert "  x-app: yes" in lines
    assert lines[-1].startswith("time: connect ")
    assert "hunter2" not in result.output
    assert SECRET not in result.output


def test_without_a_secret_it_says_that_it_did_not_sign(send: Send) -> None:
    with Receiver() as receiver:
        result = send(receiver.url())
        assert "webhook-signature" not in receiver.hits[0].headers
    assert "  (not signed: there is no CALLBACKS_SECRET)\n" in result.stdout


def test_all_of_it_is_told_in_json(send: Send) -> None:
    with Receiver() as receiver:
        result = send("--json", receiver.url(), secret=SECRET)
        (hit,) = receiver.hits
    told = json.loads(result.stdout)
    assert told["id"] == hit.id
    assert told["body"] == hit.body.decode()
    assert told["addresses"] == {"127.0.0.1": "not public, but allowed (127.0.0.0/8)"}
    assert (told["connected"], told["status"], told["reason"]) == ("127.0.0.1", 200, None)
    assert told["signed"] is True
    assert (told["hint"], told["said"]) == (None, "")
    assert (told["lookup"], told["tls"]) == (None, None)
    steps = [told[name] for name in ("connect", "request", "answer")]
    assert sum(steps) <= told["duration"] + 1e-9
    assert told["reply_headers"] == {"content-length": ["0"]}


def test_a_name_is_looked_up_and_every_address_is_judged(
    send: Send, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = ["127.0.0.1", "127.0.0.2", "93.184.216.34", "10.0.0.1"]
    monkeypatch.setattr(trace, "system_addresses", lambda _host, _port: found)
    result = send("--json", "http://customer.example/")
    told = json.loads(result.stdout)
    assert told["addresses"] == {
        "127.0.0.1": "not public, but allowed (127.0.0.0/8)",
        "127.0.0.2": "not public, but allowed (127.0.0.0/8)",
        "93.184.216.34": "public",
        "10.0.0.1": "refused: not public",
    }
    assert (told["reason"], told["connected"]) == ("blocked_address", None)
    assert told["lookup"] >= 0
    assert result.exit_code == 1
    found[2:] = []
    with Receiver() as receiver:
        told = json.loads(send("--json", f"http://customer.example:{receiver.port}/").stdout)
    assert (told["connected"], told["status"]) == ("127.0.0.1", 200)


@pytest.mark.parametrize(
    ("status", "line"),
    [
        (503, "callbacks: server_error: the receiver failed: its own logs say why\n"),
        (302, "callbacks: redirect: redirects are not followed: use the URL that it points to\n"),
    ],
)
def test_an_answer_that_is_no_2xx_is_a_failure_with_a_hint(
    send: Send, status: int, line: str
) -> None:
    with Receiver(behaviour=lambda _: Response(status)) as receiver:
        result = send(receiver.url())
    assert (result.exit_code, result.stderr) == (1, line)
    assert f"answer: {status} " in result.stdout


def test_what_the_receiver_said_is_printed_without_what_is_ours(send: Send) -> None:
    def refuse(hit: Hit) -> Response:
        return Response(401, body=f"bad {hit.headers['webhook-signature']} \x1b[31m".encode())

    with Receiver(behaviour=refuse) as receiver:
        text = send(receiver.url(), secret=SECRET)
        document = json.loads(send("--json", receiver.url(), secret=SECRET).stdout)
    assert "it said: bad [redacted] [31m\n" in text.stdout
    assert document["said"] == "bad [redacted] [31m"
    assert document["hint"].startswith("401, and no Authorization header was sent")
    assert text.stderr == f"callbacks: client_error: {document['hint']}\n"


def test_a_refused_connection_is_a_failure(send: Send) -> None:
    result = send("http://127.0.0.1:1/")
    assert result.exit_code == 1
    assert "answer: none, connect: Connection refused\n" in result.stdout
    assert "guard: 127.0.0.1: not public, but allowed" in result.stdout


def test_what_the_guard_refuses_is_not_sent(send: Send) -> None:
    with Receiver() as receiver:
        result = send(receiver.url(), allowed_networks="10.0.0.0/8")
        assert receiver.hits == []
    assert result.exit_code == 1
    assert "guard: 127.0.0.1: refused: not public\n" in result.stdout


def test_nothing_is_sent_where_the_resolver_has_no_secret(send: Send) -> None:
    with Receiver() as receiver:
        result = send(receiver.url(), secret_resolver="callbacks.text:many")
        assert receiver.hits == []
    assert result.exit_code == 1
    assert "answer: none, no_secret: callbacks.text:many " in result.stdout
    assert "not signed" not in result.stdout


def test_a_bad_url_is_wrong_usage(send: Send) -> None:
    result = send("ftp://customer.example/")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("callbacks: callback_url: has the scheme 'ftp'")
