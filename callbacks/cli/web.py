"""`callbacks web`: serves metrics, health and the status page until the process is stopped."""

from __future__ import annotations

import os
import signal
from importlib.util import find_spec
from typing import Final, NoReturn

import click

from callbacks import log as logs
from callbacks.batcher.client import connect
from callbacks.batcher.shards import Shards
from callbacks.cli.command import Failure, json_option, parts, print_json, say
from callbacks.settings import Settings

_PORT: Final = 8000
#: A Redis that takes longer counts as unreachable here.
_PATIENCE_S: Final = 2.0
#: The packages of the `web` extra.
_EXTRA: Final = ("flask", "prometheus_client", "waitress")


@click.command()
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    default=_PORT,
    envvar="PORT",
    show_default=True,
    show_envvar=True,
    help="Port to listen on; 0: any free one.",
)
@json_option
def web(port: int, as_json: bool) -> None:
    """Serve /metrics (Prometheus), /healthz and a status page.

    Listens on 127.0.0.1, or on all interfaces if PORT is set, as on Heroku. Shows numbers and
    health, but no ids, URLs or destinations.
    """
    if name := missing_package():
        raise Failure(f"{name} is not installed; pip install 'callbacks[web]'")
    from callbacks.web.app import create_app  # noqa: PLC0415 - needs the extra
    from callbacks.web.server import Server  # noqa: PLC0415
    from callbacks.web.source import Source  # noqa: PLC0415

    settings = parts().settings
    routed = bool(os.environ.get("PORT"))  # a platform routes requests here
    host = "0.0.0.0" if routed else "127.0.0.1"  # noqa: S104 - it shows nothing secret
    app = create_app(Source(_reader(settings)))
    try:
        server = Server(app, host=host, port=port)
    except OSError as error:
        raise Failure(f"cannot listen on {host}:{port}: {error.strerror}; try --port") from error
    logs.configure(settings.log_format)
    signal.signal(signal.SIGTERM, _end)
    address = f"http://{host}:{server.effective_port}"
    if as_json:
        print_json({"address": address})
    elif settings.log_format == "json":
        logs.log.info("listening", address=address)
    else:
        say(f"listening on {address}")
    server.run()


def missing_package() -> str | None:
    """The name of a package that this needs and that is not installed, if any."""
    return next((name for name in _EXTRA if find_spec(name) is None), None)


def _reader(settings: Settings) -> Shards:
    """A batcher with one connection and a short timeout.

    A script is tried three times, so a request here waits ten seconds at most.
    """
    less = {"redis_max_connections": 1, "redis_timeout": min(_PATIENCE_S, settings.redis_timeout)}
    return Shards(connect(settings.model_copy(update=less)), settings)


def _end(_number: int, _frame: object) -> NoReturn:
    """End as Ctrl-C does: the server finishes its requests."""
    raise SystemExit(0)
