"""`callbacks enqueue`: enqueue one callback."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Final

import click
import redis

from callbacks import admin, api
from callbacks.cli.arguments import NEW_ID, TIME
from callbacks.cli.command import Failure, json_option, note, parts, print_json, redis_line, say
from callbacks.model import InvalidCallback

#: What a known id may have been stored with.
OTHER: Final = "another URL, event, environment or data"


def read_json(raw: bytes) -> Any:
    """Parse one JSON value; raises ValueError, which says what is wrong without the value."""
    try:
        return json.loads(raw.decode(), parse_constant=_refuse)
    except UnicodeDecodeError:
        raise ValueError("is not UTF-8") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"is not JSON: {error.msg} (character {error.pos + 1})") from None
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"is not JSON: {error}") from None


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


def _data(_context: click.Context, _parameter: click.Parameter, value: str) -> bytes:
    """Read the value of `--data`: the text itself, a file, or stdin."""
    if value == "-":
        return sys.stdin.buffer.read()
    if not value.startswith("@"):
        return value.encode(errors="surrogateescape")
    try:
        return Path(value[1:]).read_bytes()
    except OSError as error:
        raise click.BadParameter(f"{value[1:]} cannot be read: {error.strerror}") from None


def _headers(
    _context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]
) -> dict[str, str]:
    """Split `name:value`. Errors do not repeat the value: it may hold credentials."""
    headers: dict[str, str] = {}
    for place, text in enumerate(values, start=1):
        name, colon, value = text.partition(":")
        if not colon:
            raise click.BadParameter(f"number {place} has no colon; expected NAME:VALUE")
        if name.strip() in headers:
            raise click.BadParameter(f"{name.strip()!r} is given twice")
        headers[name.strip()] = value.strip()
    return headers


@click.command()
@click.argument("url")
@click.option(
    "--data",
    default="null",
    metavar="JSON|@FILE|-",
    show_default=True,
    callback=_data,
    help="The payload: JSON, a file with it, or - for stdin.",
)
@click.option("--event", default="callback", show_default=True, help='The "type" of the envelope.')
@click.option(
    "--id", type=NEW_ID, help="Your own id, which makes a repeat harmless.  [default: generated]"
)
@click.option("--environment", help="The envelope's environment.  [default: inferred]")
@click.option(
    "--header",
    "headers",
    multiple=True,
    metavar="NAME:VALUE",
    callback=_headers,
    help="An extra request header; may be repeated.",
)
@click.option(
    "--expires-in",
    type=TIME,
    metavar="SECONDS|AGE|TIME",
    help="The callback is dead, reason expired, if not sent by then.",
)
@click.option(
    "--delay",
    type=TIME,
    metavar="SECONDS|AGE|TIME",
    help="Do not send it before then.",
)
@click.option("--lane", help="A destination of its own on a host that many customers share.")
@json_option
def enqueue(url: str, data: bytes, as_json: bool, event: str, **given: Any) -> None:
    """Enqueue one callback to URL and print its id."""
    parts()
    try:
        value = read_json(data)
    except ValueError as error:
        raise InvalidCallback("data", str(error)) from None
    try:
        receipt = api.enqueue(url, value, event=event, **given)
    except redis.RedisError as error:
        id = getattr(error, "callback_id", None)
        again = f"; it is safe to repeat with --id {id}" if id else ""
        raise Failure(redis_line(error).rstrip(".") + again) from error
    if as_json:
        print_json(admin.document(receipt))
    else:
        say(receipt.id)
    if receipt.conflict:
        raise Failure(f"{receipt.id} is known with {OTHER}; nothing was stored")
    if not receipt.accepted:
        note(f"{receipt.id} was already known; nothing was stored")
