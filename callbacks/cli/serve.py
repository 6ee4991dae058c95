"""`callbacks web`: serve metrics, health and the status page until the process is told to end."""

from __future__ import annotations

import signal
from functools import partial
from typing import Any, Final, NoReturn

import click
from click.core import ParameterSource
from waitress.server import create_server

from callbacks import log as logs
from callbacks.cli.command import Failure, parts, say
from callbacks.snapshot import take
from callbacks.web import App, Latest

_PORT: Final = 8000
#: They mostly wait for the one that reads.
_THREADS: Final = 4


@click.command()
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    default=_PORT,
    envvar="PORT",
    show_default=True,
    show_envvar=True,
    help="Where to listen; 0: any free one.",
)
@click.pass_context
def web(context: click.Context, port: int) -> None:
    """Serve /metrics (Prometheus), /healthz and a status page.

    It listens on this machine alone, and everywhere where PORT is set, as on Heroku. It shows
    numbers and health, no ids, URLs or destinations.
    """
    found = parts()
    given = context.get_parameter_source("port") is ParameterSource.ENVIRONMENT
    host = "0.0.0.0" if given else "127.0.0.1"  # noqa: S104 - the platform's router comes from outside
    app = App(Latest(partial(take, found.batcher)))
    try:
        server: Any = create_server(app, host=host, port=port, threads=_THREADS, ident="callbacks")
    except OSError as error:
        raise Failure(f"cannot listen on {host}:{port}: {error.strerror}; try --port") from error
    logs.configure(found.settings.log_format)
    signal.signal(signal.SIGTERM, _end)
    say(f"listening on http://{host}:{server.effective_port}")
    server.run()


def _end(_number: int, _frame: object) -> NoReturn:
    """End as Ctrl-C does: the server finishes what it is at."""
    raise SystemExit(0)
