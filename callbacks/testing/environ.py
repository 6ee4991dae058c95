"""The environment of one test: none of the developer's own settings, and put back afterwards."""

from __future__ import annotations

import base64
import os
import secrets
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from callbacks.settings import PREFIX, check_fields, secret_variable, variable_of

#: Where receivers in tests are.
_LOOPBACK: Final = ("127.0.0.0/8", "::1/128")


class Environ:
    """Changes variables of this process until `restore`."""

    def __init__(self) -> None:
        self._before: dict[str, str | None] = {}

    def clean(self, redis_url: str) -> str:
        """Unset every setting, and set what each test needs; returns the secret.

        `REDIS_URL` stays: the application may use it for something else.
        """
        for name in [name for name in os.environ if name.startswith(PREFIX)]:
            self._set(name, None)
        secret = f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode()}"
        self.configure(redis_url=redis_url, secret=secret, allowed_networks=_LOOPBACK)
        return secret

    def configure(self, **settings: object) -> None:
        """Set settings by their fields' names: `batch_size=5` is CALLBACKS_BATCH_SIZE=5.

        None unsets it. Raises `SettingsError` for an unknown name.
        """
        check_fields(settings)
        for name, value in _variables(settings):
            self._set(name, None if value is None else _text(value))

    def restore(self) -> None:
        """Set everything as it was."""
        while self._before:
            name, value = self._before.popitem()
            _put(name, value)

    def _set(self, name: str, value: str | None) -> None:
        self._before.setdefault(name, os.environ.get(name))
        _put(name, value)


def _put(name: str, value: str | None) -> None:
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value


def _variables(settings: Mapping[str, object]) -> Iterator[tuple[str, object]]:
    for field, value in settings.items():
        if field == "environment_secrets" and isinstance(value, Mapping):
            for environment, secret in value.items():
                yield secret_variable(environment), secret
        else:
            yield variable_of(field), value


def _text(value: object) -> str:
    """A value as its variable has it."""
    if isinstance(value, str) or not isinstance(value, Iterable):
        return str(value).lower() if isinstance(value, bool) else str(value)
    return " ".join(map(str, value))
