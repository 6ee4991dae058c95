"""`python manage.py callbacks ...` is the command `callbacks` with the project's settings."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from django.core.management.base import BaseCommand, CommandError

from callbacks.cli.main import main


class Command(BaseCommand):
    """Passes everything on."""

    help = "The command `callbacks` with the settings of this project."
    requires_system_checks: Sequence[str] = []  # `callbacks doctor` tells more

    def run_from_argv(self, argv: list[str]) -> None:
        """Run it as from a terminal: its options, output and exit codes are its own."""
        own = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
        for option in ("--settings", "--pythonpath"):  # Django has read them
            own.add_argument(option)
        _, words = own.parse_known_args(argv[2:])
        sys.exit(main(args=words, prog_name=f"{Path(argv[0]).name} {argv[1]}"))

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Take any words."""
        parser.add_argument("words", nargs=argparse.REMAINDER)

    def handle(self, *_args: Any, words: Sequence[str], **_options: Any) -> None:
        """Run it for `call_command("callbacks", "status")`; raises `CommandError`."""
        try:
            main(args=list(words), prog_name="callbacks", standalone_mode=False)
        except click.ClickException as error:
            raise CommandError(error.format_message(), returncode=error.exit_code) from error
