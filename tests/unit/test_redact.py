from __future__ import annotations

import base64
import html
import json
from urllib.parse import quote

import pytest

from callbacks.model import Request
from callbacks.request.redact import excerpt, masked_value, own_values
from callbacks.request.signature import sign

SECRET = "whsec_" + base64.b64encode(b"/+secret" * 4).decode()
SIGNATURE = sign([SECRET], "c-1", 1, b"{}")
TOKEN = "tok/en+4711=="
REQUEST = Request(
    "https://a.example/x?key=hunter2hunter2&page=1",
    "https://a.example:443",
    "production",
    (
        ("Authorization", f"Bearer {TOKEN}"),
        ("X-Api-Key", "k-12345678"),
        ("X-Mode", "error"),
    ),
    b"{}",
)
OURS = tuple(own_values(REQUEST, SIGNATURE, [SECRET]))


@pytest.mark.parametrize(
    "secret",
    [
        SECRET,
        SECRET.removeprefix("whsec_"),
        SIGNATURE,
        f"Bearer {TOKEN}",
        TOKEN,
        "k-12345678",
        "hunter2hunter2",
        "key=hunter2hunter2&page=1",
        json.dumps(TOKEN),
        TOKEN.replace("/", "\\/"),
        html.escape(TOKEN),
        quote(TOKEN, safe=""),
        SIGNATURE.replace("/", "\\/"),
        sign(["whsec_" + "b" * 40], "c-2", 2, b"{}"),
        "whsec_" + "b" * 40,
        TOKEN.upper(),
    ],
)
def test_what_is_ours_is_not_shown(secret: str) -> None:
    shown = excerpt(f"got <{secret}> for tenant 7", OURS)
    assert "[redacted]" in shown
    assert secret.strip('"') not in shown
    assert shown.startswith("got <")
    assert "tenant 7" in shown


def test_of_basic_credentials_user_and_password_are_not_shown_either() -> None:
    basic = base64.b64encode(b"shop:s3cret").decode()
    request = Request("https://a.example/", "", "", (("authorization", f"Basic {basic}"),), b"")
    shown = excerpt(f"{basic}: no such user shop:s3cret (s3cret)", own_values(request, "", ()))
    assert shown == "[redacted]: no such user [redacted] ([redacted])"


def test_a_secret_that_is_cut_off_at_the_end_is_removed_too() -> None:
    assert excerpt(f"token: {TOKEN[:8]}", OURS) == "token: [redacted]"


def test_ordinary_words_stay_although_a_header_has_them() -> None:
    assert excerpt("error: page 1", OURS) == "error: page 1"


def test_an_excerpt_is_one_printable_line_of_200_characters() -> None:
    text = "<html>\r\n\t<b>no\x1b[31m\x00 \u202eluck</b>\n"
    assert excerpt(text, ()) == "<html> <b>no[31m luck</b>"
    assert excerpt("é" * 300, ()) == "é" * 200
    assert excerpt("\x00\n ", ()) == ""


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("X-Tenant", "acme", "acme"),
        ("X-Request-Id", "9f8e7d6c-5b4a-3928-1706", "9f8e7d6c-5b4a-3928-1706"),
        ("X-Note", "two words, and a number 7", "two words, and a number 7"),
        ("X-Long", "anticonstitutionnellement", "anticonstitutionnellement"),
        ("Authorization", "Basic x", "(masked, 7 characters)"),
        ("X-Api-Key", "k", "(masked, 1 character)"),
        ("Cookie", "a=b", "(masked, 3 characters)"),
        ("X-Hook", "9f8e7d6c5b4a39281706", "(masked, 20 characters)"),
        ("X-Hook", "see whsec_AAAAAAAAAAAAAAAAAAAAAAAA", "(masked, 34 characters)"),
    ],
)
def test_a_header_is_masked_unless_it_is_surely_no_secret(
    name: str, value: str, shown: str
) -> None:
    assert masked_value(name, value) == shown
