"""What people may see of a receiver's answer and of a request's headers: no secrets of ours.

Receivers repeat what they were sent, in error pages and traces. Pure.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterable, Iterator
from html import escape
from typing import Final
from urllib.parse import quote, unquote, urlsplit

from callbacks.model import Request
from callbacks.text import many

#: Characters kept of an answer.
EXCERPT_CHARS: Final = 200
REDACTED: Final = "[redacted]"

#: Shorter values are no secrets, and would be found in ordinary words ...
_MIN_CHARS: Final = 5
#: ... and so would be those of headers and queries that are not made for secrets.
_MIN_OTHER_CHARS: Final = 8
_CREDENTIALS: Final = {"authorization", "cookie"}
#: Signing secrets and signatures of Standard Webhooks, whoever's, in any of the usual escapings.
_SIGNING: Final = re.compile(r"(?:whsec_|v1(?:,|%2C))[A-Za-z0-9+/=\\%&#;_-]{16,}")
_SECRET_NAME: Final = re.compile(
    r"auth|cookie|credential|key|pass|pwd|secret|session|signature|token|jwt", re.IGNORECASE
)
#: Headers whose values only look like secrets.
_HARMLESS: Final = {"accept", "content-type", "traceparent", "user-agent", "x-request-id"}
#: Sixteen characters without a space, with a digit and a letter among them.
_RANDOM: Final = re.compile(r"(?=\S*[0-9])(?=\S*[A-Za-z])[A-Za-z0-9+/=._~-]{16,}")
_SPACE: Final = re.compile(r"\s+")


def excerpt(text: str, ours: Iterable[str]) -> str:
    """The first printable characters of `text` in one line, without any of `ours`.

    If the text was cut off within a secret, what is left of it is removed too.
    """
    forms = {form for value in ours for form in _forms(value) if len(form) >= _MIN_CHARS}
    values = sorted(forms, key=len, reverse=True)
    text = _SIGNING.sub(REDACTED, text)
    if values:
        text = re.sub("|".join(map(re.escape, values)), REDACTED, text, flags=re.IGNORECASE)
        text = _without_start(text, values)
    text = _SPACE.sub(" ", text)
    return "".join(char for char in text if char.isprintable()).strip()[:EXCERPT_CHARS]


def own_values(request: Request, signature: str, secrets: Iterable[str]) -> Iterator[str]:
    """What must not be shown of an attempt: signature, secrets, header values, the URL's query."""
    yield from signature.replace("v1,", "").split()
    yield from (secret.removeprefix("whsec_") for secret in secrets)
    for name, value in request.headers:
        if name.lower() in _CREDENTIALS:
            yield from _credentials(value)
        elif len(value) >= _MIN_OTHER_CHARS:
            yield value
    query = urlsplit(request.callback_url).query
    values = (query, *(part.partition("=")[2] for part in query.split("&")))
    yield from (value for value in values if len(value) >= _MIN_OTHER_CHARS)


def masked_value(name: str, value: str) -> str:
    """The value of a header for people: masked, unless it is surely no secret.

    Its name may say that it is one, or it looks like one: long, in one piece, of letters and
    digits mixed as no word is.
    """
    looks_secret = _SIGNING.search(value) or _RANDOM.search(value)
    if _SECRET_NAME.search(name) or (looks_secret and name.lower() not in _HARMLESS):
        return f"(masked, {many(len(value), 'character')})"
    return value


def _credentials(value: str) -> Iterator[str]:
    """An `Authorization`, and what is behind its scheme; of Basic also user and password."""
    scheme, _, rest = value.partition(" ")
    yield value
    yield rest
    if scheme.lower() != "basic":
        return
    try:
        pair = base64.b64decode(rest, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return
    yield pair
    yield pair.partition(":")[2]


def _forms(value: str) -> Iterator[str]:
    """A value as it is, and as JSON, HTML and URLs write it."""
    yield value
    yield json.dumps(value)[1:-1]
    yield value.replace("/", "\\/")
    yield escape(value)
    yield quote(value, safe="")
    yield unquote(value)


def _without_start(text: str, values: Iterable[str]) -> str:
    """Remove the start of a value that the end of the text has cut off."""
    cut = len(text)
    for value in values:
        if value[:_MIN_CHARS] not in text:
            continue
        for size in range(min(len(value) - 1, len(text)), _MIN_CHARS - 1, -1):
            if text.endswith(value[:size]):
                cut = min(cut, len(text) - size)
                break
    return text if cut == len(text) else text[:cut] + REDACTED
