"""Parsers for the text of environment variables.

Each takes the text, or a value of the field's type, and raises a ValueError whose message is what
is allowed; `settings` prepends the variable and its value.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Network, IPv6Network, ip_network
from types import MappingProxyType
from typing import Annotated, Final, Literal

from pydantic import BeforeValidator

from callbacks import redis_url
from callbacks.request.environment import ENVIRONMENT, ENVIRONMENT_FORMAT
from callbacks.request.signature import SECRET_FORMAT, decode_secret
from callbacks.request.urls import normal_host

_SHORTEST_S: Final = 0.001  # whole milliseconds are stored: less would become 0
_LONGEST_RETRY_S: Final = 7 * 86_400
_MOST_RETRIES: Final = 100

_NAMESPACE: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_ACTOR: Final = re.compile(r"[^\W\d][\w.-]{0,127}")
_WEB_TOKEN: Final = re.compile(r"[!-~]{8,200}")
_SWITCH: Final = MappingProxyType(
    {"true": True, "1": True, "yes": True, "on": True}
    | {"false": False, "0": False, "no": False, "off": False}
)


def seconds(low: float, high: float) -> BeforeValidator:
    """A duration; at least a millisecond, or 0 if `low` is 0."""
    bounds = f"{'0, or ' * (low == 0)}{max(low, _SHORTEST_S):g} to {high:.15g}"
    allowed = f"{bounds} seconds, without a unit (such as 2.5)"

    def parse(value: object) -> float:
        return _seconds(value, low, high, allowed)

    return BeforeValidator(parse)


def share() -> BeforeValidator:
    """A number from 0 to 1."""
    return _within(float, 0, 1, "a number from 0 to 1")


def whole(low: int, high: int) -> BeforeValidator:
    """An integer from `low` to `high`."""
    return _within(int, low, high, f"a whole number from {low} to {high}")


def _within(kind: type[int | float], low: int, high: int, allowed: str) -> BeforeValidator:
    def parse(value: object) -> float:
        try:
            number = kind(_text(value, allowed))
        except ValueError:
            raise ValueError(allowed) from None
        if not low <= number <= high:
            raise ValueError(allowed)
        return number

    return BeforeValidator(parse)


def one_of(*names: str) -> BeforeValidator:
    """One of these words."""

    def parse(value: object) -> object:
        if value not in names:
            raise ValueError(f"{', '.join(names[:-1])} or {names[-1]}")
        return value

    return BeforeValidator(parse)


def _parse_switch(value: object) -> bool:
    if isinstance(value, bool):
        return value
    allowed = "true, false, yes, no, on, off, 1 or 0"
    found = _SWITCH.get(_text(value, allowed).lower())
    if found is None:
        raise ValueError(allowed)
    return found


def _parse_redis_url(value: object) -> str:
    return redis_url.check(_text(value, "a URL"))


def _parse_namespace(value: object) -> str:
    return _matching(value, _NAMESPACE, "letters, digits, '_', '.' and '-', at most 64 characters")


def _parse_environment(value: object) -> str:
    return _matching(value, ENVIRONMENT, ENVIRONMENT_FORMAT)


def _parse_web_token(value: object) -> str:
    if value == "":
        return ""
    return _matching(
        value, _WEB_TOKEN, "8 to 200 characters of ASCII without spaces, such as 24 random ones"
    )


def _parse_actor(value: object) -> str:
    if value == "":
        return ""
    return _matching(value, _ACTOR, "the name of a Dramatiq actor")


def _parse_resolver(value: object) -> str:
    if value == "":
        return ""
    allowed = "module:function"
    text = _text(value, allowed)
    module, _, function = text.partition(":")
    if not all(part.isidentifier() for name in (module, function) for part in name.split(".")):
        raise ValueError(allowed)
    return text


def _parse_wait_for(value: object) -> str:
    if value not in ("", "aof", "replica", "aof+replica"):
        raise ValueError("aof, replica or aof+replica")
    return str(value)


def _parse_schedule(value: object) -> tuple[float, ...]:
    allowed = (
        f"at most {_MOST_RETRIES} waits such as 5,300,1800, each of 0, or "
        f"{_SHORTEST_S:g} to {_LONGEST_RETRY_S} seconds"
    )
    waits = tuple(_seconds(item, 0, _LONGEST_RETRY_S, allowed) for item in _items(value, allowed))
    if len(waits) > _MOST_RETRIES:
        raise ValueError(allowed)
    return waits


def _parse_hosts(value: object) -> frozenset[str]:
    allowed = "host names such as hooks.slack.com, without scheme, port and path"
    try:
        return frozenset(normal_host(_text(item, allowed)) for item in _items(value, allowed))
    except ValueError:
        raise ValueError(allowed) from None


def _parse_networks(value: object) -> tuple[IPv4Network | IPv6Network, ...]:
    allowed = "CIDRs such as 10.0.0.0/8 or fd00::/8, without bits past the prefix"
    try:
        return tuple(ip_network(str(item)) for item in _items(value, allowed))
    except ValueError:
        raise ValueError(allowed) from None


def _parse_secrets(value: object) -> tuple[str, ...]:
    allowed = f"signing secrets ({SECRET_FORMAT}), separated by spaces"
    secrets = tuple(_text(item, allowed) for item in _items(value, allowed))
    try:
        for secret in secrets:
            decode_secret(secret)
    except ValueError:
        raise ValueError(allowed) from None
    return secrets


def _seconds(value: object, low: float, high: float, allowed: str) -> float:
    try:
        number = float(_text(value, allowed))
    except ValueError:
        raise ValueError(allowed) from None
    # The first comparison is also false for nan.
    if not low <= number <= high or 0 < number < _SHORTEST_S:
        raise ValueError(allowed)
    return number


def _text(value: object, allowed: str) -> str:
    """The value as text; refuses bool and None."""
    if not isinstance(value, (str, int, float)) or isinstance(value, bool):
        raise ValueError(allowed)  # noqa: TRY004 -- pydantic collects ValueErrors only
    return str(value)


def _items(value: object, allowed: str) -> list[object]:
    """The elements of a collection, or of a text separated by spaces or commas."""
    if isinstance(value, (tuple, list, set, frozenset)):
        return list(value)
    return [*_text(value, allowed).replace(",", " ").split()]


def _matching(value: object, pattern: re.Pattern[str], allowed: str) -> str:
    text = _text(value, allowed)
    if not pattern.fullmatch(text):
        raise ValueError(allowed)
    return text


Switch = Annotated[bool, BeforeValidator(_parse_switch)]
RedisUrl = Annotated[str, BeforeValidator(_parse_redis_url)]
Namespace = Annotated[str, BeforeValidator(_parse_namespace)]
Environment = Annotated[str, BeforeValidator(_parse_environment)]
Actor = Annotated[str, BeforeValidator(_parse_actor)]
Resolver = Annotated[str, BeforeValidator(_parse_resolver)]
Schedule = Annotated[tuple[float, ...], BeforeValidator(_parse_schedule)]
WebToken = Annotated[str, BeforeValidator(_parse_web_token)]
Hosts = Annotated[frozenset[str], BeforeValidator(_parse_hosts)]
Networks = Annotated[tuple[IPv4Network | IPv6Network, ...], BeforeValidator(_parse_networks)]
Secrets = Annotated[tuple[str, ...], BeforeValidator(_parse_secrets)]
LogFormat = Annotated[Literal["logfmt", "json", "console"], one_of("logfmt", "json", "console")]
WaitFor = Annotated[Literal["", "aof", "replica", "aof+replica"], BeforeValidator(_parse_wait_for)]
