"""What `python manage.py check` says of the settings; opens no connection, as `doctor` does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.conf import settings as project
from django.core.checks import CheckMessage, Error
from django.core.checks import Warning as Caution

from callbacks.model import SettingsError
from callbacks.request.secrets import SecretResolverError, load_resolver
from callbacks.settings import Settings, load_settings


def check_settings(app_configs: Any = None, **_more: object) -> list[CheckMessage]:  # noqa: ARG001 - Django's signature
    """Check `settings.CALLBACKS` together with the environment."""
    given = getattr(project, "CALLBACKS", {})
    if not isinstance(given, dict):
        problem = f"settings.CALLBACKS is of type {type(given).__name__}; expected a dict"
        return [Error(problem, id="callbacks.E001")]
    try:
        settings = load_settings()
    except SettingsError as error:
        hint = "See settings.CALLBACKS and the variables CALLBACKS_... of the environment."
        return [Error(str(error), hint=hint, id="callbacks.E001")]
    return list(_found(settings))


def _found(settings: Settings) -> Iterator[CheckMessage]:
    if settings.secret_resolver:
        try:
            load_resolver(settings.secret_resolver)
        except SecretResolverError as error:
            hint = "SECRET_RESOLVER is module:function(callback_url, environment)."
            yield Error(str(error), hint=hint, id="callbacks.E002")
    if not settings.signing_configured:
        hint = "Set SECRET; `python manage.py callbacks secret new` makes one."
        yield Caution("Callbacks are not signed.", hint=hint, id="callbacks.W001")
    for warning in settings.warnings:
        yield Caution(warning, id="callbacks.W002")
