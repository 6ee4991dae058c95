"""Signatures of Standard Webhooks 1.0: symmetric, `v1,` + base64 of an HMAC-SHA256.

The signed text is `id.timestamp.body`; see the specification, "Webhook headers" and
"Signature scheme". A secret is written `whsec_` + base64 of 24 to 64 bytes.
"""

from __future__ import annotations

import base64
import binascii
import functools
import hmac
from collections.abc import Mapping, Sequence
from typing import Final

from callbacks.model import CallbacksError

SECRET_FORMAT: Final = "whsec_ + base64 of 24 to 64 bytes"

_SECRET_PREFIX: Final = "whsec_"
_SECRET_BYTES: Final = range(24, 65)
_MAX_TIMESTAMP_DIGITS: Final = 15  # unix seconds of this era have 10; int() of thousands is slow


class BadSignature(CallbacksError):
    """A request is not signed by any of the secrets, or not recently; says what is wrong."""


def decode_secret(secret: str) -> bytes:
    """Return the key that a secret encodes; raises ValueError, without the secret, if invalid."""
    encoded = secret.removeprefix(_SECRET_PREFIX)
    try:
        # Padding may be missing, as in other implementations; too much of it is ignored.
        key = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not secret.startswith(_SECRET_PREFIX) or len(key) not in _SECRET_BYTES:
        raise ValueError(f"not a signing secret; expected {SECRET_FORMAT}")
    return key


def sign(secrets: Sequence[str], id: str, timestamp_s: int, body: bytes) -> str:
    """Return the `webhook-signature` header: one signature for each secret, in order."""
    if not secrets:
        raise ValueError("nothing to sign with: no secrets given")
    content = b"%s.%d.%s" % (id.encode(), timestamp_s, body)
    return " ".join(f"v1,{_mac(secret, content)}" for secret in secrets)


def verify(
    secrets: Sequence[str],
    headers: Mapping[str, str],
    body: bytes,
    now_s: float,
    tolerance_s: float = 300,
) -> None:
    """Check that one of the secrets signed this request within `tolerance_s` of `now_s`.

    Header names may be in any case. Raises BadSignature, which says what is wrong.
    """
    lowered = {name.lower(): value for name, value in headers.items()}
    id = _required(lowered, "webhook-id")
    timestamp_s = _timestamp(_required(lowered, "webhook-timestamp"))
    given = _required(lowered, "webhook-signature").split()
    if abs(now_s - timestamp_s) > tolerance_s:
        raise BadSignature(f"webhook-timestamp is over {tolerance_s:g} s off: {timestamp_s}")
    expected = sign(secrets, id, timestamp_s, body).split()
    # Every pair is compared, so that the time taken does not reveal which one matched.
    matches = [
        hmac.compare_digest(one.encode(), other.encode()) for one in expected for other in given
    ]
    if not any(matches):
        raise BadSignature("webhook-signature matches none of the secrets")


@functools.lru_cache(maxsize=1_024)
def _keyed(secret: str) -> hmac.HMAC:
    return hmac.new(decode_secret(secret), digestmod="sha256")


def _mac(secret: str, content: bytes) -> str:
    """Sign by a copy of what was begun with the key; `hmac.digest` would release the GIL."""
    mac = _keyed(secret).copy()
    mac.update(content)
    return base64.b64encode(mac.digest()).decode("ascii")


def _required(headers: Mapping[str, str], name: str) -> str:
    value = headers.get(name)
    if not value:
        raise BadSignature(f"{name} is missing")
    if not value.isascii():
        raise BadSignature(f"{name} is not ASCII")
    return value


def _timestamp(text: str) -> int:
    if not text.isdigit() or len(text) > _MAX_TIMESTAMP_DIGITS:
        raise BadSignature("webhook-timestamp is not a unix time in whole seconds")
    return int(text)
