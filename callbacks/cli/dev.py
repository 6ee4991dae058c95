"""`callbacks dev`: everything for local development in one terminal."""

from __future__ import annotations

import fcntl
import os
import shlex
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click

from callbacks.batcher.client import connect
from callbacks.cli.command import json_option, note, print_json, say
from callbacks.cli.processes import (
    SCHEDULER,
    Processes,
    RunError,
    await_server,
    ended_by_signals,
    server,
    server_binary,
    undisturbed,
    worker,
)
from callbacks.cli.receiver.command import PORT
from callbacks.cli.secret import new_secret
from callbacks.cli.web import missing_package
from callbacks.settings import Settings, load_settings
from callbacks.text import printable

FOLDER: Final = ".callbacks"

_REDIS_URLS: Final = ("CALLBACKS_REDIS_URL", "REDIS_URL")
_LOOPBACK: Final = "127.0.0.0/8 ::1/128"
_THREADS: Final = 16
_START_PATIENCE_S: Final = 60.0
_POLL_S: Final = 0.1
_COMMAND: Final = (sys.executable, "-m", "callbacks")
_COLOURS: Final = {
    "server": "magenta",
    "receiver": "green",
    "worker": "cyan",
    "scheduler": "blue",
    "web": "yellow",
}


@click.command()
@click.argument("modules", nargs=-1, metavar="[MODULE]...")
@click.option(
    "--port",
    type=click.IntRange(0, 65_533),
    default=PORT,
    show_default=True,
    help="Port of the receiver; the status page and the server have the next two. 0: any free.",
)
@json_option
def dev(modules: tuple[str, ...], port: int, as_json: bool) -> None:
    """Run everything for local development in this terminal.

    That is a worker (which also loads MODULEs), the scheduler, the status page and a receiver.
    Without REDIS_URL also a server, which keeps its data in the folder .callbacks; without a
    secret, one is made. Callbacks to this machine are allowed. Ctrl-C ends all of it.
    """
    with suppress(KeyboardInterrupt), ended_by_signals(), _locked(Path(FOLDER)) as folder:
        plan = _plan(folder, *_ports(port))
        processes = Processes(Path.cwd(), _printer(as_json=as_json))
        with _ended(processes):
            _start(plan, processes, modules)
            if as_json:
                print_json(plan.document())
            else:
                _print(plan)
            while True:
                processes.check()
                time.sleep(_POLL_S)


@dataclass(frozen=True, slots=True)
class _Plan:
    """What to run: `environ` is that of all processes, `own` what is not the caller's in it.

    `server` is a command, None if the caller has a Redis. There is no page without its packages.
    """

    environ: Mapping[str, str]
    own: Mapping[str, str]
    settings: Settings
    receiver_port: int
    page_port: int | None
    server: list[str] | None

    @property
    def receiver(self) -> str:
        return f"http://127.0.0.1:{self.receiver_port}/"

    @property
    def page(self) -> str | None:
        return f"http://127.0.0.1:{self.page_port}/" if self.page_port else None

    def document(self) -> dict[str, Any]:
        """The plan for programs."""
        return {"receiver": self.receiver, "page": self.page, "environment": dict(self.own)}


def _plan(folder: Path, receiver_port: int, page_port: int, server_port: int) -> _Plan:
    """Decide what to run; raises SettingsError, and RunError if there is no server to run."""
    own, command = {}, None
    if not any(os.environ.get(name) for name in _REDIS_URLS):
        own["REDIS_URL"] = f"redis://127.0.0.1:{server_port}/0"
        options = {"bind": "127.0.0.1", "port": str(server_port), "dir": str(folder.resolve())}
        command = server(server_binary(), **options, loglevel="warning")
    if not load_settings().signing_configured:
        own["CALLBACKS_SECRET"] = _kept_secret(folder)
    networks = os.environ.get("CALLBACKS_ALLOWED_NETWORKS", "")
    own["CALLBACKS_ALLOWED_NETWORKS"] = f"{networks} {_LOOPBACK}".strip()
    environ = os.environ | own | {"PYTHONUNBUFFERED": "1"}
    environ.pop("PORT", None)  # with it, the status page would listen on all interfaces
    return _Plan(
        environ=environ,
        own=own,
        settings=load_settings(environ),
        receiver_port=receiver_port,
        page_port=None if missing_package() else page_port,
        server=command,
    )


# The data folder


@contextmanager
def _locked(folder: Path) -> Iterator[Path]:
    """Make the data folder, for one `callbacks dev` at a time: two servers would spoil the data."""
    folder.mkdir(mode=0o700, exist_ok=True)
    (folder / ".gitignore").write_text("*\n")
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunError(f"another `callbacks dev` runs here and uses {folder}") from None
        yield folder


def _kept_secret(folder: Path) -> str:
    """The secret of this folder, made at its first use."""
    file = folder / "secret"
    with suppress(FileNotFoundError):
        return file.read_text().strip()
    file.touch(mode=0o600)
    file.write_text(f"{new_secret()}\n")
    return file.read_text().strip()


# Ports


def _ports(first: int) -> tuple[int, int, int]:
    """Free ports of the receiver, the page and the server; raises RunError."""
    wanted = (first, first + 1, first + 2) if first else (0, 0, 0)
    with ExitStack() as stack:
        receiver, page, server = (stack.enter_context(_listening(port)) for port in wanted)
        return receiver.getsockname()[1], page.getsockname()[1], server.getsockname()[1]


def _listening(port: int) -> socket.socket:
    try:
        return socket.create_server(("127.0.0.1", port))
    except OSError as error:
        text = os.strerror(error.errno or 0)
        raise RunError(f"cannot listen on 127.0.0.1:{port}: {text}; try --port") from error


# Processes


def _start(plan: _Plan, processes: Processes, modules: tuple[str, ...]) -> None:
    """Start everything; what is started first ends last."""
    with closing(connect(plan.settings)) as client:
        if plan.server:
            processes.start("server", plan.server, plan.environ)
            await_server(client, processes)
        client.ping()
    port = str(plan.receiver_port)
    known = {"CALLBACKS_SECRET": " ".join(_all_secrets(plan.settings))}
    processes.start("receiver", [*_COMMAND, "receiver", "--port", port], {**plan.environ, **known})
    processes.start("worker", worker(*modules, processes=1, threads=_THREADS), plan.environ)
    processes.start("scheduler", SCHEDULER, plan.environ)
    if plan.page_port:
        processes.start("web", [*_COMMAND, "web", "--port", str(plan.page_port)], plan.environ)
        _await_listening(plan.page_port, processes)
    _await_listening(plan.receiver_port, processes)


def _all_secrets(settings: Settings) -> list[str]:
    """The secrets of all environments: the receiver does not know which one a callback is of."""
    more = [secret for secrets in settings.environment_secrets.values() for secret in secrets]
    return [*settings.secret, *more]


def _await_listening(port: int, processes: Processes) -> None:
    give_up = time.monotonic() + _START_PATIENCE_S
    while time.monotonic() < give_up:
        processes.check()
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(_POLL_S)
    raise RunError(f"nothing listens on 127.0.0.1:{port}")


@contextmanager
def _ended(processes: Processes) -> Iterator[None]:
    try:
        yield
    finally:
        with undisturbed():
            note("ending: requests in flight are completed first")
            processes.stop()


# Output


def _printer(*, as_json: bool) -> Callable[[str, str], None]:
    """Print a line of a process after its name; on stderr beside JSON."""
    width = max(map(len, _COLOURS))

    def show(name: str, line: str) -> None:
        prefix = click.style(f"{name:<{width}} |", fg=_COLOURS[name])
        with suppress(OSError):  # nobody reads it; the process must not block
            click.echo(f"{prefix} {printable(line)}", err=as_json)

    return show


def _print(plan: _Plan) -> None:
    say("")
    say(f"  receiver  {plan.receiver}")
    say(f"  page      {_page(plan)}")
    say(f"  Redis     {plan.settings.redis_address}, {_whose(plan)}")
    say("")
    say("  In the terminal of your application:")
    for name, value in plan.own.items():
        say(f"    export {name}={shlex.quote(value)}")
    say(f'    callbacks enqueue {plan.receiver} --data \'{{"hello": "world"}}\'')
    say("")
    say("  Ctrl-C ends everything.")
    say("")


def _page(plan: _Plan) -> str:
    if not plan.page:
        return "none: install callbacks with its extra [web]"
    has_console = plan.settings.web_token
    return plan.page if has_console else f"{plan.page}, with CALLBACKS_WEB_TOKEN also the console"


def _whose(plan: _Plan) -> str:
    if plan.server:
        return f"keeps its data in {FOLDER}"
    return "from your environment: what waits there is sent from here"
