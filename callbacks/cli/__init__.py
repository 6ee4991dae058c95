"""The `callbacks` command: a module for each command, named as the command.

`main` is the entry point, `command` has what all commands share. A command parses, calls a
method or a duty, and prints; what it prints is decided below, so that `web` can tell the same.

Nothing imports it but the entry points and the tests.
"""
