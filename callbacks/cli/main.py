"""The `callbacks` command: each subcommand parses, calls one method, and prints."""

from __future__ import annotations

import click

from callbacks.cli.audit import audit
from callbacks.cli.cancel import cancel
from callbacks.cli.cleanup import cleanup
from callbacks.cli.command import Commands
from callbacks.cli.dead import dead
from callbacks.cli.demo import demo
from callbacks.cli.destinations import destinations
from callbacks.cli.dev import dev
from callbacks.cli.doctor import doctor
from callbacks.cli.enqueue import enqueue
from callbacks.cli.flush import flush
from callbacks.cli.import_ import import_
from callbacks.cli.list import list_
from callbacks.cli.log import log
from callbacks.cli.outbox import outbox
from callbacks.cli.pause import pause
from callbacks.cli.receiver.command import receiver
from callbacks.cli.resume import resume
from callbacks.cli.secret import secret
from callbacks.cli.send import send
from callbacks.cli.show import show
from callbacks.cli.status import status
from callbacks.cli.web import web
from callbacks.version import __version__

__all__ = ["main"]


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="callbacks")
def main() -> None:
    """Queue, watch and manage HTTP callbacks kept in Redis.

    Every command exits with 0 on success, 1 on a failure, explained in one line on stderr,
    and 2 on wrong usage. Settings are CALLBACKS_... environment variables.
    """


for _command in (
    enqueue,
    import_,
    status,
    show,
    list_,
    flush,
    pause,
    resume,
    cancel,
    dead,
    destinations,
    log,
    cleanup,
    audit,
    doctor,
    send,
    receiver,
    secret,
    outbox,
    demo,
    dev,
    web,
):
    main.add_command(_command)
