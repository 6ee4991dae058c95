"""Public names exist, and mypy checks an application that uses each of them."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

import callbacks
from callbacks import admin

APPLICATION = (Path(__file__).parent / "application.py").read_text("utf-8")


@pytest.mark.parametrize("module", [callbacks, admin], ids=["callbacks", "admin"])
def test_every_public_name_is_used_in_the_application_that_mypy_checks(module: ModuleType) -> None:
    short = module.__name__.rpartition(".")[2]
    unused = [name for name in module.__all__ if f"{short}.{name}" not in APPLICATION]
    assert unused == []


@pytest.mark.parametrize("module", [callbacks, admin], ids=["callbacks", "admin"])
def test_every_public_function_and_class_says_what_it_does(module: ModuleType) -> None:
    for name in module.__all__:
        one = getattr(module, name)
        if callable(one) and not hasattr(one, "actor_name"):
            assert one.__doc__, name


def test_every_error_of_the_package_that_users_meet_can_be_imported() -> None:
    for name in ("InvalidCallback", "QueueFull", "RedisRefused", "SettingsError"):
        assert issubclass(getattr(callbacks, name), callbacks.CallbacksError)
    assert issubclass(callbacks.SecretResolverError, callbacks.CallbacksError)
