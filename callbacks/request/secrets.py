"""Calls the application's secret resolver, named by CALLBACKS_SECRET_RESOLVER.

That is the application's code: it may raise anything, return anything and take any time.
"""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Callable

from callbacks.model import CallbacksError
from callbacks.request.signature import SECRET_FORMAT, decode_secret


class SecretResolverError(CallbacksError):
    """The resolver named by CALLBACKS_SECRET_RESOLVER failed; the message contains no secret."""


def ask_resolver(path: str, callback_url: str, environment: str) -> tuple[str, ...]:
    """Return the resolver's secrets; without a timeout.

    Raises SecretResolverError if it fails or returns anything but a list of secrets.
    """
    resolve = load_resolver(path)
    try:
        found = resolve(callback_url, environment)
    except Exception as error:
        raise SecretResolverError(f"{path} raised {type(error).__name__}") from error
    return _checked_secrets(path, found)


@functools.cache
def load_resolver(path: str) -> Callable[[str, str], object]:
    """Load the function named by CALLBACKS_SECRET_RESOLVER; raises SecretResolverError."""
    module_name, _, function_name = path.partition(":")
    try:
        found: object = importlib.import_module(module_name)
        for name in function_name.split("."):
            found = getattr(found, name)
    except Exception as error:
        raise SecretResolverError(f"{path} cannot be loaded: {_words(error)}") from error
    if not callable(found):
        raise SecretResolverError(f"{path} is not a function")
    if not _takes_two(found):
        raise SecretResolverError(f"{path} does not take (callback_url, environment)")
    return found


def _words(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


def _takes_two(function: Callable[..., object]) -> bool:
    """Whether it can be called with two arguments, if its signature is known."""
    try:
        inspect.signature(function).bind("", "")
    except TypeError:
        return False
    except ValueError:  # some functions written in C have no signature
        return True
    return True


def _checked_secrets(path: str, found: object) -> tuple[str, ...]:
    if not isinstance(found, (list, tuple)):
        kind = type(found).__name__
        raise SecretResolverError(f"{path} returned {kind}; expected a list of secrets")
    try:
        for secret in found:
            decode_secret(secret)
    except (ValueError, TypeError, AttributeError):
        problem = f"{path} returned an invalid secret; expected {SECRET_FORMAT} each"
        raise SecretResolverError(problem) from None
    return tuple(found)
