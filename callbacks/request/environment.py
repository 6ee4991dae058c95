"""The format of an environment's name."""

from __future__ import annotations

import re
from typing import Final

ENVIRONMENT_FORMAT: Final = (
    "lower-case letters, digits and inner hyphens, at most 64 characters, and not 'resolver'"
)

# CALLBACKS_SECRET_RESOLVER is a setting, so no environment can have that name.
ENVIRONMENT: Final = re.compile(r"(?!resolver$)[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?")


def is_environment(name: str) -> bool:
    """Whether this is a valid name of an environment, see `ENVIRONMENT_FORMAT`."""
    return ENVIRONMENT.fullmatch(name) is not None
