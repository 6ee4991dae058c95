"""`callbacks secret`: makes a signing secret, checks the signature of a stored request."""

from __future__ import annotations

import base64
import json
import math
import re
import secrets as randomness
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from callbacks.cli.command import Failure, json_option, print_json, say
from callbacks.request.signature import BadSignature, decode_secret, verify
from callbacks.text import age

_F = TypeVar("_F", bound=Callable[..., Any])

_EMPTY_LINE: Final = re.compile(rb"\r?\n\r?\n")
_SECRET_BYTES: Final = 32
#: What receivers usually allow between the signing of a request and its arrival.
_TOLERANCE_S: Final = 300


def new_secret() -> str:
    """A new signing secret."""
    return f"whsec_{base64.b64encode(randomness.token_bytes(_SECRET_BYTES)).decode()}"


def _read_secrets(
    _context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]
) -> tuple[str, ...]:
    try:
        for value in values:
            decode_secret(value)
    except ValueError as error:
        raise click.BadParameter(f"it is {error}") from None
    return values


def secret_option(function: _F) -> _F:
    """Add `--secret` to a command."""
    return click.option(
        "--secret",
        "secrets",
        multiple=True,
        metavar="SECRET",
        envvar="CALLBACKS_SECRET",
        show_envvar=True,
        callback=_read_secrets,
        help="The secret that signs, whsec_...; may be repeated during a rotation.",
    )(function)


@click.group()
def secret() -> None:
    """Make a signing secret, or check a stored request with one."""


@secret.command()
@json_option
def new(as_json: bool) -> None:
    """Print a new signing secret for CALLBACKS_SECRET."""
    if as_json:
        print_json({"secret": new_secret()})
    else:
        say(new_secret())


@secret.command("verify")
@secret_option
@click.argument("file", metavar="FILE")
@json_option
def verify_(secrets: tuple[str, ...], file: str, as_json: bool) -> None:
    """Check the signature of a stored request.

    FILE (-: stdin) holds its headers, an empty line, and its body byte for byte, or one line of
    `callbacks receiver --json`. How long ago it was signed does not matter here, but receivers
    refuse a request that is older than some minutes.
    """
    if not secrets:
        raise click.UsageError("there is no --secret or CALLBACKS_SECRET")
    headers, body = _read_request(_contents(file))
    now_s = time.time()
    try:
        verify(secrets, headers, body, now_s, tolerance_s=math.inf)
    except BadSignature as error:
        raise Failure(str(error) + _hint(secrets, headers, body)) from None
    age_s = now_s - int(headers["webhook-timestamp"])
    if as_json:
        print_json({"valid": True, "id": headers["webhook-id"], "age": round(age_s)})
        return
    say(f"valid: {headers['webhook-id']}, signed {_ago(age_s)}")


def _ago(age_s: float) -> str:
    since = f"{age(age_s)} ago" if age_s >= 0 else f"{age(-age_s)} in the future"
    is_late = abs(age_s) > _TOLERANCE_S
    return since + (", so a receiver would refuse it now" if is_late else "")


def _hint(secrets: tuple[str, ...], headers: dict[str, str], body: bytes) -> str:
    """What may be wrong with the file: editors and shells add a line break at its end."""
    try:
        verify(secrets, headers, body.removesuffix(b"\n").removesuffix(b"\r"), 0, math.inf)
    except BadSignature:
        return ""
    return "; it would be valid without the line break at the end of FILE"


def _contents(file: str) -> bytes:
    if file == "-":
        return sys.stdin.buffer.read()
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise click.BadParameter(f"{file} cannot be read: {error.strerror}") from None


def _read_request(raw: bytes) -> tuple[dict[str, str], bytes]:
    """Headers, by their names in lower case, and body; raises Failure."""
    return _from_json(raw) if raw.lstrip()[:1] == b"{" else _from_http(raw)


def _from_json(raw: bytes) -> tuple[dict[str, str], bytes]:
    try:
        request = json.loads(raw)
        headers = {str(name).lower(): str(value) for name, value in request["headers"].items()}
        return headers, request["body"].encode("utf-8", "surrogateescape")
    except (ValueError, TypeError, KeyError, AttributeError):
        raise Failure('FILE is not one line of JSON with "headers" and "body"') from None


def _from_http(raw: bytes) -> tuple[dict[str, str], bytes]:
    """Read a head, with or without its request line, and a body, which `content-length` cuts."""
    end = _EMPTY_LINE.search(raw)
    if end is None:
        raise Failure("FILE has no empty line between the headers and the body")
    head, body = raw[: end.start()], raw[end.end() :]
    fields = (line.partition(":") for line in head.decode("latin-1").split("\n"))
    headers = {name.strip().lower(): value.strip() for name, colon, value in fields if colon}
    length = headers.get("content-length", "")
    return headers, body[: int(length)] if length.isdigit() else body
