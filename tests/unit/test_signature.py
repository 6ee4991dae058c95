"""Signatures of Standard Webhooks 1.0, compared with the reference package."""

from __future__ import annotations

import base64
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook

from callbacks.request.signature import BadSignature, decode_secret, sign, verify

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER = "whsec_" + base64.b64encode(b"o" * 32).decode()
ID = "msg_p5jXN8AQM9LWM0D4loKWxJek"
AT = 1_614_265_330
BODY = b'{"test": 2432232314}'
# openssl dgst -sha256 -mac HMAC over "ID.AT.BODY" with the 24 bytes of SECRET, in base64.
SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="

secrets = st.binary(min_size=24, max_size=64).map(lambda key: f"whsec_{_base64(key)}")
ids = st.from_regex(r"[A-Za-z0-9_:.-]{1,128}", fullmatch=True)


def _base64(key: bytes) -> str:
    return base64.b64encode(key).decode()


def _headers(signature: str = SIGNATURE, **changed: str) -> dict[str, str]:
    headers = {"webhook-id": ID, "webhook-timestamp": str(AT), "webhook-signature": signature}
    return headers | {name.replace("_", "-"): value for name, value in changed.items()}


def test_a_signature_is_what_openssl_makes_of_the_same_text() -> None:
    assert sign([SECRET], ID, AT, BODY) == SIGNATURE


def test_several_secrets_sign_side_by_side_the_first_first() -> None:
    first, second = sign([SECRET, OTHER], ID, AT, BODY).split(" ")

    assert first == SIGNATURE
    assert second == sign([OTHER], ID, AT, BODY)
    assert second != first


def test_signing_with_no_secret_is_an_error_and_no_empty_header() -> None:
    with pytest.raises(ValueError, match="no secrets given"):
        sign([], ID, AT, BODY)


@given(secrets, ids, st.integers(0, 4_000_000_000), st.text())
def test_the_reference_package_makes_the_same_signature(
    secret: str, id: str, timestamp_s: int, text: str
) -> None:
    at = datetime.fromtimestamp(timestamp_s, tz=UTC)

    assert sign([secret], id, timestamp_s, text.encode()) == Webhook(secret).sign(id, at, text)


@given(secrets, ids, st.text())
def test_the_reference_package_verifies_what_we_sign(secret: str, id: str, text: str) -> None:
    now_s = int(datetime.now(tz=UTC).timestamp())
    body = text.encode()
    headers = {
        "webhook-id": id,
        "webhook-timestamp": str(now_s),
        "webhook-signature": sign([OTHER, secret], id, now_s, body),
    }

    Webhook(secret).verify(body, headers, json_parse=False)


@given(secrets, ids, st.text())
def test_we_verify_what_the_reference_package_signs(secret: str, id: str, text: str) -> None:
    signature = Webhook(secret).sign(id, datetime.fromtimestamp(AT, tz=UTC), text)

    verify([secret], _headers(signature, webhook_id=id), text.encode(), now_s=AT)


@pytest.mark.parametrize("now_s", [AT - 300, AT, AT + 299.5, AT + 300])
def test_a_request_is_good_within_the_tolerance_on_either_side(now_s: float) -> None:
    verify([SECRET], _headers(), BODY, now_s)


@pytest.mark.parametrize("now_s", [AT - 301, AT + 300.5, AT + 86_400])
def test_a_request_from_too_long_ago_or_ahead_is_refused(now_s: float) -> None:
    with pytest.raises(BadSignature, match="over 300 s off"):
        verify([SECRET], _headers(), BODY, now_s)


def test_a_receiver_in_the_middle_of_a_rotation_accepts_either_secret() -> None:
    verify([OTHER, SECRET], _headers(), BODY, AT)
    verify([SECRET], _headers(sign([OTHER, SECRET], ID, AT, BODY)), BODY, AT)


def test_header_names_count_in_any_case() -> None:
    verify([SECRET], {name.title(): value for name, value in _headers().items()}, BODY, AT)


@pytest.mark.parametrize(
    ("headers", "body", "problem"),
    [
        (_headers(), BODY + b" ", "matches none"),
        (_headers(webhook_id="msg_other"), BODY, "matches none"),
        (_headers(webhook_timestamp=str(AT + 1)), BODY, "matches none"),
        (_headers("v1a" + SIGNATURE.removeprefix("v1")), BODY, "matches none"),
        (_headers("v1,\u00e9"), BODY, "webhook-signature is not ASCII"),
        (_headers(webhook_id="\ud800"), BODY, "webhook-id is not ASCII"),
        (_headers(sign([OTHER], ID, AT, BODY)), BODY, "matches none"),
        (_headers(""), BODY, "webhook-signature is missing"),
        (_headers(webhook_id=""), BODY, "webhook-id is missing"),
        (_headers(webhook_timestamp=""), BODY, "webhook-timestamp is missing"),
        (_headers(webhook_timestamp="1614265330.5"), BODY, "not a unix time"),
        (_headers(webhook_timestamp="-1"), BODY, "not a unix time"),
        (_headers(webhook_timestamp="\u0661"), BODY, "webhook-timestamp is not ASCII"),
        (_headers(webhook_timestamp="9" * 5_000), BODY, "not a unix time"),
    ],
)
def test_whatever_was_changed_on_the_way_is_refused_and_named(
    headers: dict[str, str], body: bytes, problem: str
) -> None:
    with pytest.raises(BadSignature, match=problem):
        verify([SECRET], headers, body, AT)


@pytest.mark.parametrize("size", [24, 25, 32, 64])
def test_a_secret_stands_for_24_to_64_bytes_padded_or_not(size: int) -> None:
    encoded = _base64(b"k" * size)

    assert decode_secret(f"whsec_{encoded}") == b"k" * size
    assert decode_secret(f"whsec_{encoded.rstrip('=')}") == b"k" * size


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "whsec_",
        "whsec_" + _base64(b"k" * 23),
        "whsec_" + _base64(b"k" * 65),
        _base64(b"k" * 32),
        "WHSEC_" + _base64(b"k" * 32),
        "whsec_" + _base64(b"k" * 32)[:-2] + "!!",
        "whsec_" + "\u00e9" * 32,
        "whsec_" + _base64(b"\xff" * 32).replace("/", "_"),
    ],
)
def test_what_is_no_secret_is_refused_without_repeating_it(secret: str) -> None:
    with pytest.raises(ValueError, match="expected whsec_") as caught:
        decode_secret(secret)

    assert str(caught.value) == "not a signing secret; expected whsec_ + base64 of 24 to 64 bytes"
    assert caught.value.__cause__ is None
