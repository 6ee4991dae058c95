"""The version of the installed package, read from its metadata."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Final


def _version() -> str:
    try:
        return version("callbacks")
    except PackageNotFoundError:  # a checkout that was never installed
        return "0+unknown"


__version__: Final = _version()
