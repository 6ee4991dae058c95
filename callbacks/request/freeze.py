"""Checks and freezes a callback's input at enqueue, and packs it into one string."""

from __future__ import annotations

import functools
import json
import re
import reprlib
import secrets as randomness
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

from callbacks.model import InvalidCallback, Request
from callbacks.request.envelope import body_of
from callbacks.request.environment import ENVIRONMENT_FORMAT, is_environment
from callbacks.request.headers import frozen_headers
from callbacks.request.signature import sign
from callbacks.request.urls import destination_of, normal_url
from callbacks.text import to_json
from callbacks.when import instant

MAX_NAME_CHARS: Final = 128  # of an event or a lane

_ID: Final = re.compile(r"[A-Za-z0-9_.:-]{1,128}")


class Limits(Protocol):
    """The settings that `freeze` uses."""

    @property
    def https_only(self) -> bool: ...

    @property
    def max_payload_bytes(self) -> int: ...

    @property
    def shared_hosts(self) -> Collection[str]: ...


def mint_id() -> str:
    """A new, unguessable callback id: `cb_` and 96 random bits in hex."""
    return f"cb_{randomness.token_hex(12)}"


def check_id(id: object) -> str:
    """Return the id if it is valid, else raise InvalidCallback."""
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
    settings: Limits,
    now: datetime,
) -> Request:
    """Build the request that every attempt sends; the input is checked here and nowhere later.

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
    """All headers of one attempt; unsigned if there are no secrets."""
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
    """Serialize the request: a line with the destination, a line of JSON, and the body.

    Behind the JSON is the trace's context, if any. Lua scripts read only the first line, and the
    URL.
    """
    if "\n" in request.destination:
        raise ValueError("a destination has no line break")
    head = _head(request.destination, request.callback_url, request.environment, request.headers)
    if request.trace:
        head = head[:-1] + f" {request.trace}\n".encode()
    return head + request.body


@functools.lru_cache(maxsize=1_024)  # for receivers of many callbacks
def _head(
    destination: str, callback_url: str, environment: str, headers: tuple[tuple[str, str], ...]
) -> bytes:
    line = to_json([callback_url, environment, headers])
    return f"{destination}\n{line}\n".encode()


def unpack(packed: bytes) -> Request:
    """Return the request that was packed; raises ValueError if this is not one."""
    try:
        destination, line, body = packed.split(b"\n", 2)
        trace = ""
        if not line.endswith(b"]"):
            line, _, context = line.rpartition(b"] ")
            line, trace = line + b"]", context.decode("ascii")
        return Request(*_unpacked_head(destination, line), body, trace)
    except (ValueError, TypeError, RecursionError):
        raise ValueError("not a packed request") from None


@functools.lru_cache(maxsize=1_024)  # as `_head`
def _unpacked_head(
    destination: bytes, line: bytes
) -> tuple[str, str, str, tuple[tuple[str, str], ...]]:
    callback_url, environment, headers = json.loads(line)
    pairs = tuple((name, value) for name, value in headers)
    texts = [callback_url, environment, *(text for pair in pairs for text in pair)]
    if not all(isinstance(text, str) for text in texts):
        raise TypeError("not texts")
    return callback_url, destination.decode(), environment, pairs


@dataclass(frozen=True, slots=True)
class Head:
    """What the start of a packed request says of it; `created_at` in seconds since 1970."""

    callback_url: str
    environment: str
    event: str
    created_at: float


def read_head(start: bytes) -> Head | None:
    """Read the start of a packed request, up to the environment in its body; None if it is none."""
    try:
        destination, line, body = start.split(b"\n", 2)
        callback_url, _, environment, _ = _unpacked_head(destination, line)
        said = json.loads(body + b"}")
        return Head(callback_url, environment, said["type"], instant(said["timestamp"]))
    except (ValueError, TypeError, KeyError, RecursionError):
        return None


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
