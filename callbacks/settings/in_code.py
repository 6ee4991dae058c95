"""What an application has set in code, by the names of the fields; its environment comes first.

Nothing is checked here: `load_settings` does that, for both at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_values: Final[dict[str, object]] = {}


def values_in_code() -> Mapping[str, object]:
    """Everything that is set in code."""
    return _values


def set_in_code(given: Mapping[str, object]) -> None:
    """Add to it; a name that was set before gets the new value, None the default."""
    _values.update(given)
    for name in [name for name, value in _values.items() if value is None]:
        del _values[name]


def replace_in_code(given: Mapping[str, object]) -> None:
    """Forget what was set before."""
    _values.clear()
    set_in_code(given)
