"""Reads `settings.CALLBACKS` when Django starts."""

from __future__ import annotations

from typing import Any, Final

from django.apps import AppConfig
from django.conf import settings
from django.core.checks import register
from django.core.signals import setting_changed

from callbacks import SettingsError, configure
from callbacks.contrib.django.checks import check_settings
from callbacks.runtime import renew, runtime_if_made
from callbacks.settings.in_code import replace_in_code, set_in_code

_NAME: Final = "CALLBACKS"


class CallbacksConfig(AppConfig):
    """The app."""

    name = "callbacks.contrib.django"
    label = "callbacks"
    verbose_name = "callbacks"

    def ready(self) -> None:
        """Use the project's settings, and have them checked."""
        register(check_settings)
        setting_changed.connect(_follow_override)
        given = given_settings()
        try:
            configure(**given)
        except SettingsError:
            if runtime_if_made() is not None:
                raise
            # Kept, so that every use fails for it; the check tells, instead of a traceback here.
            set_in_code(given)


def given_settings() -> dict[str, Any]:
    """What the project sets, by the names of the fields; anything but a dict is a bad setting."""
    given = getattr(settings, _NAME, {})
    if not isinstance(given, dict):
        return {_NAME: given}
    return {str(name).lower(): value for name, value in given.items()}


def _follow_override(*, setting: str, **_more: object) -> None:
    """Follow `override_settings` in a test."""
    if setting == _NAME:
        replace_in_code(given_settings())
        renew()
