"""`callbacks receiver` checks and prints requests, passes them on, and misbehaves on request."""

from __future__ import annotations

import json
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests
from click.testing import CliRunner, Result

from callbacks.cli.main import main
from callbacks.cli.receiver import Hit, Receiver, Response
from callbacks.cli.secret import new_secret
from callbacks.request.signature import sign

SECRET, OTHER = new_secret(), new_secret()

Talk = Callable[[str], object]


@pytest.fixture(autouse=True)
def no_secret(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("CALLBACKS_SECRET", raising=False)
    yield
    assert "receiver" not in {thread.name for thread in threading.enumerate()}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def received(talk: Talk, *words: str, end: signal.Signals = signal.SIGINT) -> Result:
    """Run the command, have another thread talk to it, and end it as Ctrl-C does."""
    port, failures = free_port(), list[BaseException]()
    main_thread = threading.get_ident()

    def run() -> None:
        try:
            await_listening(port)
            talk(f"http://127.0.0.1:{port}")
        except BaseException as error:  # noqa: BLE001 - the test fails with it
            failures.append(error)
        finally:
            signal.pthread_kill(main_thread, end)

    talker = threading.Thread(target=run)
    talker.start()
    result = CliRunner().invoke(main, ["receiver", "--port", str(port), *words])
    talker.join()
    assert failures == []
    assert result.exit_code == 0, result.output
    return result


def await_listening(port: int) -> None:
    give_up = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            assert time.monotonic() < give_up
            time.sleep(0.01)
        else:
            return


def post(url: str, id: str = "c-1", secret: str = SECRET, body: bytes = b'{"n":1}') -> int:
    now = int(time.time())
    headers = {
        "webhook-id": id,
        "webhook-timestamp": str(now),
        "webhook-attempt": "1",
        "webhook-signature": sign([secret], id, now, body),
    }
    return requests.post(f"{url}/hook", data=body, headers=headers, timeout=10).status_code


def facts(result: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_each_callback_is_printed_with_its_body_and_a_repeat_is_marked() -> None:
    def talk(url: str) -> None:
        assert [post(url), post(url, "c-2"), post(url)] == [200, 200, 200]

    result = received(talk, "--secret", SECRET)
    first, *lines = result.stdout.splitlines()
    assert first.startswith("listening on http://127.0.0.1:")
    assert first.endswith("/, checks signatures")
    assert lines[0].endswith(" POST /hook id=c-1 attempt=1 signature=valid answer=200")
    assert lines[1] == '  {"n":1}'
    assert lines[4].endswith(" POST /hook id=c-1 attempt=1 repeat=2 signature=valid answer=200")
    assert result.stderr == "3 requests, 1 repeat, 0 with a bad signature\n"


def test_a_wrong_signature_is_answered_with_401_and_says_why() -> None:
    answers = []

    def talk(url: str) -> None:
        answers.extend([post(url, secret=OTHER), post(url)])
        answers.append(requests.post(url, timeout=10).status_code)

    result = received(talk, "--secret", SECRET, "--json")
    assert answers == [401, 200, 401]
    assert [each["signature"] for each in facts(result)] == ["invalid", "valid", "invalid"]
    assert [each["problem"] for each in facts(result)] == [
        "webhook-signature matches none of the secrets",
        "",
        "webhook-id is missing",
    ]
    assert result.stderr.endswith("3 requests, 1 repeat, 2 with a bad signature\n")


def test_the_secrets_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALLBACKS_SECRET", f"{OTHER} {SECRET}")
    (came,) = facts(received(post, "--json"))
    assert came["signature"] == "valid"


def test_without_a_secret_nothing_is_checked() -> None:
    result = received(post)
    assert "checks no signatures: there is no --secret" in result.stdout
    assert "signature=unchecked answer=200" in result.stdout


def test_json_has_one_line_for_each_callback_with_everything_that_came() -> None:
    result = received(lambda url: post(url, body=b"\xff\n"), "--json", "--secret", SECRET)
    (came,) = facts(result)
    assert came | {"headers": 0, "time": 0} == {
        "time": 0,
        "id": "c-1",
        "attempt": 1,
        "times": 1,
        "repeat": False,
        "signature": "valid",
        "problem": "",
        "method": "POST",
        "path": "/hook",
        "headers": 0,
        "body": "\udcff\n",
        "fault": "",
        "answer": 200,
    }
    assert came["headers"]["webhook-id"] == "c-1"
    assert result.stderr.startswith("listening on ")
    stored = CliRunner().invoke(main, ["secret", "verify", "--secret", SECRET, "-"], result.stdout)
    assert stored.stdout.startswith("valid: c-1, signed ")


def test_a_terminal_cannot_be_controlled_and_a_long_body_is_cut() -> None:
    result = received(lambda url: post(url, body=b"\x1b[31m" + b"x" * 9_000))
    assert "\x1b" not in result.stdout
    assert result.stdout.endswith(" ... (9,005 characters)\n")


def test_it_misbehaves_on_request() -> None:
    answers = []

    def talk(url: str) -> None:
        started = time.monotonic()
        answers.extend([post(url), post(url), post(url)])
        assert time.monotonic() - started >= 0.3

    faults = ("--fault", "429:2/s", "--fault", "slow:0.1", "--fault", "503:0")
    came = facts(received(talk, "--json", *faults))
    assert answers == [200, 200, 429]
    assert [each["fault"] for each in came] == ["", "", "429:2/s"]
    assert [each["answer"] for each in came] == answers


@pytest.mark.parametrize("fault", ["hang", "reset"])
def test_an_answer_that_never_comes_is_none(fault: str) -> None:
    def talk(url: str) -> None:
        with pytest.raises(requests.RequestException):
            requests.post(url, timeout=0.2)

    (came,) = facts(received(talk, "--json", "--fault", fault))
    assert (came["answer"], came["fault"]) == (None, fault)


@pytest.mark.parametrize(("path", "expected"), [("", "/hook"), ("/app?x=1", "/app?x=1")])
def test_requests_are_passed_on_and_the_application_answers(path: str, expected: str) -> None:
    reply = Response(418, (("x-app", "yes"),), b"short and stout", close=True)
    answers = []

    def talk(url: str) -> None:
        answers.append(requests.post(f"{url}/hook", data=b"body", timeout=10))

    with Receiver(behaviour=lambda _: reply) as app:
        (came,) = facts(received(talk, "--json", "--forward", app.url("") + path))
        (passed_on,) = app.hits
    assert came["answer"] == 418
    assert (passed_on.path, passed_on.body) == (expected, b"body")
    assert passed_on.headers["host"] == f"127.0.0.1:{app.port}"
    (answer,) = answers
    assert (answer.status_code, answer.content) == (418, b"short and stout")
    assert answer.headers["x-app"] == "yes"


def test_what_is_not_signed_well_is_not_passed_on_and_faults_come_first() -> None:
    with Receiver() as app:
        words = ("--json", "--secret", SECRET, "--forward", app.url())
        (came,) = facts(received(lambda url: post(url, secret=OTHER), *words))
        assert came["answer"] == 401
        (came,) = facts(received(post, *words, "--fault", "503"))
        assert came["answer"] == 503
        assert app.hits == []


def test_an_application_that_is_away_is_answered_with_502() -> None:
    words = ("--json", "--forward", f"http://127.0.0.1:{free_port()}")
    (came,) = facts(received(post, *words))
    assert came["answer"] == 502


def test_while_an_application_takes_its_time_others_are_answered() -> None:

    def behave(hit: Hit) -> Response:
        return Response(delay_s=30 if hit.id == "slow" else 0)

    def talk(url: str) -> None:
        threading.Thread(target=lambda: failing(url), daemon=True).start()
        until_hit(app)
        assert post(url, "quick") == 200

    def failing(url: str) -> None:
        with pytest.raises(requests.RequestException):
            post(url, "slow")

    with Receiver(behaviour=behave) as app:
        came = facts(received(talk, "--json", "--forward", app.url()))
    assert [each["id"] for each in came] == ["quick"]


def until_hit(app: Receiver) -> None:
    assert app.wait_for_hits(1, timeout_s=10)


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_well(end: signal.Signals) -> None:
    before = signal.getsignal(end)
    assert received(post, end=end).exit_code == 0
    assert signal.getsignal(end) is before


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--fault", "nonsense"], "'nonsense' is not a fault; expected a status (503,"),
        (["--secret", "hunter2"], "not a signing secret; expected whsec_"),
        (["--forward", "localhost:3000"], "'localhost:3000' is not a URL; expected http://"),
    ],
)
def test_bad_options_are_refused(words: list[str], expected: str) -> None:
    result = CliRunner().invoke(main, ["receiver", *words])
    assert result.exit_code == 2
    assert expected in result.stderr
    assert "hunter2" not in result.output


def test_a_port_in_use_is_reported_in_one_line() -> None:
    with Receiver() as other:
        result = CliRunner().invoke(main, ["receiver", "--port", str(other.port)])
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"callbacks: cannot listen on 127.0.0.1:{other.port}: ")


def test_it_ends_where_nobody_reads_its_output(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_facts: dict[str, Any]) -> None:
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr("callbacks.cli.receiver.command._print_text", fail)
    port = free_port()

    def talk() -> None:
        await_listening(port)
        post(f"http://127.0.0.1:{port}")

    talker = threading.Thread(target=talk)
    talker.start()
    result = CliRunner().invoke(main, ["receiver", "--port", str(port)])
    talker.join()
    assert result.exit_code == 1
