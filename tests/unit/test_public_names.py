"""Public names exist, and mypy checks an application that uses each of them."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType

import pytest

import callbacks
from callbacks import admin, outbox, testing

APPLICATION = (Path(__file__).parent / "application.py").read_text("utf-8")
each_module = pytest.mark.parametrize(
    "module", [callbacks, admin, outbox, testing], ids=["callbacks", "admin", "outbox", "testing"]
)


@each_module
def test_every_public_name_is_used_in_the_application_that_mypy_checks(module: ModuleType) -> None:
    short = module.__name__.rpartition(".")[2]
    used = set(re.findall(rf"\b{short}\.(\w+)", APPLICATION))
    unused = [name for name in module.__all__ if name not in used]
    assert unused == []


@each_module
def test_every_public_function_and_class_says_what_it_does(module: ModuleType) -> None:
    for name in module.__all__:
        one = getattr(module, name)
        if callable(one) and not hasattr(one, "actor_name"):
            assert one.__doc__, name


def test_every_error_of_the_package_that_users_meet_can_be_imported() -> None:
    for name in ("InvalidCallback", "QueueFull", "RedisRefused", "SettingsError"):
        assert issubclass(getattr(callbacks, name), callbacks.CallbacksError)
    assert issubclass(callbacks.SecretResolverError, callbacks.CallbacksError)
