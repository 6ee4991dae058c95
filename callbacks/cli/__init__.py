"""The `callbacks` command: one module per command, named as the command.

`main` is the entry point; `command` has what all commands share. A command parses, calls a method
or a duty, and prints. What it prints is decided in `monitor`, so that `web` can show the same.

Only the entry points and the tests import it.
"""
