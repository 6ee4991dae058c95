"""`callbacks web`: serves metrics, health and the console until the process is stopped."""

from __future__ import annotations

import os
import signal
from importlib.util import find_spec
from typing import Final, NoReturn

import click

from callbacks import log as logs
from callbacks.cli.command import Failure, json_option, parts, print_json, say
from callbacks.monitor.reporter import Reporter
from callbacks.runtime import outlets, with_one_connection

_PORT: Final = 8000
#: A Redis that takes longer counts as unreachable here. A script is tried three times, so a
#: request waits ten seconds at most.
_PATIENCE_S: Final = 2.0
#: The packages of the `web` extra.
_EXTRA: Final = ("flask", "flask_wtf", "limits", "prometheus_client", "waitress")


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
    """Serve /metrics, /healthz, a page of numbers and the console.

    Listens on 127.0.0.1, or on all interfaces if PORT is set, as on Heroku. Without
    CALLBACKS_WEB_TOKEN it shows numbers, charts and health, but no ids, URLs or destinations; with
    it, whoever logs in sees everything, and can pause, resume, cancel, replay and purge.
    """
    if name := missing_package():
        raise Failure(f"{name} is not installed; install callbacks with its extra [web]")
    from callbacks.web.app import create_app, end_jobs  # noqa: PLC0415 - needs the extra
    from callbacks.web.server import Server  # noqa: PLC0415
    from callbacks.web.source import Source  # noqa: PLC0415

    settings = parts().settings
    batcher = with_one_connection(_PATIENCE_S).batcher
    routed = bool(os.environ.get("PORT"))  # a platform routes requests here
    host = "0.0.0.0" if routed else "127.0.0.1"  # noqa: S104 - names need a login
    app = create_app(Source(batcher))
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
    Reporter(lambda: batcher, outlets).start()
    try:
        server.run()
    finally:
        end_jobs(app)


def missing_package() -> str | None:
    """The name of a package that this needs and that is not installed, if any."""
    return next((name for name in _EXTRA if find_spec(name) is None), None)


def _end(_number: int, _frame: object) -> NoReturn:
    """End as Ctrl-C does: the server finishes its requests."""
    raise SystemExit(0)
