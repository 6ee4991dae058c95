"""`callbacks secret` makes secrets, and checks stored requests with them."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from callbacks.cli.main import main
from callbacks.cli.secret import new_secret
from callbacks.request.signature import decode_secret, sign

SECRET = new_secret()
BODY = b'{"type":"ping"}\n\n{"a": "\xc3\xbc"}'


def run(*words: str, input: bytes | None = None) -> Result:
    return CliRunner().invoke(main, ["secret", *words], input=input, env={"CALLBACKS_SECRET": None})


def stored(body: bytes = BODY, *, age_s: int = 0, end: str = "\r\n", first: str = "") -> bytes:
    at = int(time.time()) - age_s
    lines = [
        *([first] if first else []),
        "Content-Type: application/json",
        "Webhook-Id: c-1",
        f"Webhook-Timestamp: {at}",
        f"Webhook-Signature: {sign([SECRET], 'c-1', at, body)}",
    ]
    return end.join([*lines, "", ""]).encode() + body


def test_a_new_secret_is_one_that_signs_and_never_the_same() -> None:
    first, second = run("new").stdout.strip(), json.loads(run("new", "--json").stdout)["secret"]
    assert len(decode_secret(first)) == len(decode_secret(second)) == 32
    assert first != second


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("first", ["", "POST /hook HTTP/1.1"])
def test_a_stored_request_is_valid(tmp_path: Path, end: str, first: str) -> None:
    file = tmp_path / "request"
    file.write_bytes(stored(end=end, first=first))
    result = run("verify", "--secret", SECRET, str(file))
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("valid: c-1, signed ")
    assert "refuse" not in result.stdout


def test_it_may_come_from_stdin_and_be_told_in_json() -> None:
    result = run("verify", "--secret", SECRET, "--json", "-", input=stored(age_s=60))
    document = json.loads(result.stdout)
    assert document.pop("age") in range(60, 70)
    assert document == {"valid": True, "id": "c-1"}


def test_one_that_is_old_is_valid_but_would_be_refused_by_now() -> None:
    result = run("verify", "--secret", SECRET, "-", input=stored(age_s=7_200))
    assert result.stdout == "valid: c-1, signed 2 h ago, so a receiver would refuse it now\n"
    result = run("verify", "--secret", SECRET, "-", input=stored(age_s=-7_300))
    assert "2 h in the future, so a receiver would refuse it now" in result.stdout


def test_one_of_several_secrets_is_enough() -> None:
    words = ("--secret", new_secret(), "--secret", SECRET)
    assert run("verify", *words, "-", input=stored()).exit_code == 0


@pytest.mark.parametrize(
    ("request_", "problem"),
    [
        (stored()[:-1], "webhook-signature matches none of the secrets"),
        (stored() + b"\r\n", "none of the secrets; it would be valid without the line break at"),
        (stored() + b"\n", "none of the secrets; it would be valid without the line break at"),
        (stored().replace(b"Webhook-Id", b"X"), "webhook-id is missing"),
        (b"nonsense", "FILE has no empty line between the headers and the body"),
        (b'{"headers": {}}', 'FILE is not one line of JSON with "headers" and "body"'),
        (b'{"headers": 1, "body": ""}', 'FILE is not one line of JSON with "headers" and "body"'),
        (b'{"headers": {}, "body": ""}\n{}', "FILE is not one line of JSON"),
    ],
)
def test_what_is_wrong_is_one_line(request_: bytes, problem: str) -> None:
    result = run("verify", "--secret", SECRET, "-", input=request_)
    assert (result.exit_code, result.stdout) == (1, "")
    (line,) = result.stderr.splitlines()
    assert problem in line


def test_a_line_break_that_was_added_does_not_matter_where_the_length_is_stored() -> None:
    request = stored(first=f"Content-Length: {len(BODY)}") + b"\n"
    assert run("verify", "--secret", SECRET, "-", input=request).exit_code == 0


def test_wrong_usage_exits_with_2_and_shows_no_secret() -> None:
    bad = run("verify", "--secret", "whsec_hunter2", "-", input=stored())
    assert bad.exit_code == 2
    assert "hunter2" not in bad.output
    assert "CALLBACKS_SECRET" in run("verify", "-").stderr
    assert "cannot be read" in run("verify", "--secret", SECRET, "/nowhere").stderr
