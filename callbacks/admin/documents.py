"""Values as JSON documents: instants in RFC 3339, durations in seconds, URLs without secrets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, Final

from callbacks.request.urls import display_url
from callbacks.when import rfc3339

_INSTANTS: Final = ("_at", "_since", "_until")


def document(value: Any) -> Any:
    """A value of this package as what JSON holds. URLs are shown without user info and query."""
    if is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: _member(field.name, getattr(value, field.name)) for field in fields(value)
        }
    if isinstance(value, Mapping):
        return {str(name): document(member) for name, member in value.items()}
    if isinstance(value, list | tuple):
        return [document(member) for member in value]
    return value


def is_instant(name: str) -> bool:
    """Whether a field of this name is an instant."""
    return name in {"at", "since"} or name.endswith(_INSTANTS)


def _member(name: str, value: Any) -> Any:
    if name == "callback_url" and isinstance(value, str):
        return display_url(value)
    if is_instant(name) and isinstance(value, int | float):
        return rfc3339(value)
    return document(value)
