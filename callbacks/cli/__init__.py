"""The `callbacks` command: each subcommand is glue around a duty, a page of the books or a verb."""

from __future__ import annotations

import click

from callbacks.cli.command import Commands
from callbacks.cli.demonstrate import demo
from callbacks.cli.examine import doctor
from callbacks.cli.importing import import_
from callbacks.cli.letters import dead
from callbacks.cli.look import audit, destinations, list_, show
from callbacks.cli.overall import status
from callbacks.cli.put import enqueue
from callbacks.cli.serve import web
from callbacks.cli.steer import cancel, cleanup, flush, pause, resume
from callbacks.version import __version__

__all__ = ["main"]


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="callbacks")
def main() -> None:
    """Queue, watch and steer HTTP callbacks kept in Redis.

    Every command exits with 0 on success, 1 on a failure that it explains in one line on
    stderr, and 2 on wrong usage. Settings are CALLBACKS_... environment variables.
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
    cleanup,
    audit,
    doctor,
    demo,
    web,
):
    main.add_command(_command)
