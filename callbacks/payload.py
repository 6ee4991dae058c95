"""What is sent: a callback's input checked and frozen at enqueue, and packed into one string.

Pure but for `ask_resolver`, which may call the resolver that the settings name.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import json
import re
import reprlib
import secrets as randomness
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final

from callbacks.envelope import body_of
from callbacks.headers import frozen_headers
from callbacks.model import CallbacksError, InvalidCallback, Request
from callbacks.settings import Settings
from callbacks.signature import SECRET_FORMAT, decode_secret, sign
from callbacks.urls import destination_of, normal_url
from callbacks.variables import ENVIRONMENT_FORMAT, is_environment

MAX_NAME_CHARS: Final = 128  # of an event or a lane

_encode: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode

_ID: Final = re.compile(r"[A-Za-z0-9_.:-]{1,128}")


class SecretResolverError(CallbacksError):
    """The resolver that CALLBACKS_SECRET_RESOLVER names failed; nothing of a secret is in it."""


def mint_id() -> str:
    """A new callback's id, which cannot be guessed: `cb_` and 96 random bits in hex."""
    return f"cb_{randomness.token_hex(12)}"


def check_id(id: object) -> str:
    """The id, where it can be one: InvalidCallback where not."""
    if not isinstance(id, str) or not _ID.fullmatch(id):
        problem = f"is {reprlib.repr(id)}; expected 1 to 128 of A-Z a-z 0-9 _ . : -"
        raise InvalidCallback("id", problem)
    return id


def freeze(
    callback_url: str,
    data: object,
    *,
    event: str,
    environment: str,
    headers: Mapping[str, str] | Iterable[tuple[str, str]] | None,
    lane: str | None,
    settings: Settings,
    now: datetime,
) -> Request:
    """The request that every attempt sends, from input that is checked here and nowhere later.

    `now` (aware) becomes the envelope's timestamp. Raises InvalidCallback, which names the
    field, what is wrong and what is expected.
    """
    url = normal_url(callback_url, https_only=settings.https_only)
    _check_name("event", event)
    if lane is not None:
        _check_name("lane", lane)
    _check_environment(environment)
    frozen = frozen_headers(headers)
    limit = settings.max_payload_bytes
    body = body_of(data, event=event, environment=environment, now=now, limit=limit)
    return Request(
        callback_url=url,
        destination=destination_of(url, lane=lane, shared_hosts=settings.shared_hosts),
        environment=environment,
        headers=frozen,
        body=body,
    )


def request_headers(
    request: Request,
    *,
    id: str,
    attempt: int,
    timestamp_s: int,
    secrets: Sequence[str],
    version: str,
) -> dict[str, str]:
    """All headers of one attempt; unsigned where there are no secrets."""
    ours = {
        "content-type": "application/json",
        "user-agent": f"callbacks/{version}",
        "webhook-id": id,
        "webhook-timestamp": str(timestamp_s),
        "webhook-attempt": str(attempt),
    }
    if secrets:
        ours["webhook-signature"] = sign(secrets, id, timestamp_s, request.body)
    return dict(request.headers) | ours


def pack(request: Request) -> bytes:
    """The request as one string: destination, a line of JSON for the rest, and the body.

    The first line is all that Lua scripts read of it.
    """
    if "\n" in request.destination:
        raise ValueError("a destination has no line break")
    head = _head(request.destination, request.callback_url, request.environment, request.headers)
    return head + request.body


@functools.lru_cache(maxsize=1_024)  # of those that are told of many things
def _head(
    destination: str, callback_url: str, environment: str, headers: tuple[tuple[str, str], ...]
) -> bytes:
    line = _encode([callback_url, environment, headers])
    return f"{destination}\n{line}\n".encode()


def unpack(packed: bytes) -> Request:
    """The request that was packed; ValueError where this is none."""
    try:
        destination, line, body = packed.split(b"\n", 2)
        callback_url, environment, headers = json.loads(line)
        pairs = tuple((name, value) for name, value in headers)
        request = Request(callback_url, destination.decode(), environment, pairs, body)
    except (ValueError, TypeError, RecursionError):
        raise ValueError("not a packed request") from None
    texts = [callback_url, environment, *(text for pair in pairs for text in pair)]
    if not all(isinstance(text, str) for text in texts):
        raise ValueError("not a packed request")
    return request


def ask_resolver(path: str, callback_url: str, environment: str) -> tuple[str, ...]:
    """What the application's resolver says; it may take as long as it likes.

    Raises SecretResolverError where it fails or gives anything but a list of secrets.
    """
    resolve = load_resolver(path)
    try:  # somebody else's function: anything may come out of it
        found = resolve(callback_url, environment)
    except Exception as error:
        raise SecretResolverError(f"{path} raised {type(error).__name__}") from error
    return _checked_secrets(path, found)


@functools.cache
def load_resolver(path: str) -> Callable[[str, str], object]:
    """The function that CALLBACKS_SECRET_RESOLVER names; raises SecretResolverError."""
    module_name, _, function_name = path.partition(":")
    try:
        found: object = importlib.import_module(module_name)
        for name in function_name.split("."):
            found = getattr(found, name)
    except Exception as error:
        raise SecretResolverError(f"{path} cannot be loaded: {_words(error)}") from error
    if not callable(found):
        raise SecretResolverError(f"{path} is no function")
    if not _takes_two(found):
        raise SecretResolverError(f"{path} does not take (callback_url, environment)")
    return found


def _words(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


def _takes_two(function: Callable[..., object]) -> bool:
    """Whether it can be called with two arguments, as far as it tells."""
    try:
        inspect.signature(function).bind("", "")
    except TypeError:
        return False
    except ValueError:  # some of C's tell nothing
        return True
    return True


def _checked_secrets(path: str, found: object) -> tuple[str, ...]:
    if not isinstance(found, (list, tuple)):
        kind = type(found).__name__
        raise SecretResolverError(f"{path} returned {kind}; expected a list of secrets")
    try:
        for secret in found:
            decode_secret(secret)
    except (ValueError, TypeError, AttributeError):
        problem = f"{path} returned what is no secret; expected {SECRET_FORMAT} each"
        raise SecretResolverError(problem) from None
    return tuple(found)


def _check_name(field: str, name: object) -> None:
    if not isinstance(name, str) or not name.strip() or not name.isprintable():
        problem = f"is {reprlib.repr(name)}; expected printable characters"
        raise InvalidCallback(field, problem)
    if len(name) > MAX_NAME_CHARS:
        problem = f"has {len(name):,} characters; expected at most {MAX_NAME_CHARS}"
        raise InvalidCallback(field, problem)


def _check_environment(name: object) -> None:
    if not isinstance(name, str) or not is_environment(name):
        problem = f"is {reprlib.repr(name)}; expected {ENVIRONMENT_FORMAT}"
        raise InvalidCallback("environment", problem)
