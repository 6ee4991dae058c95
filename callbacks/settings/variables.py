"""Parsers for the text of environment variables.

Each takes the text, or a value of the field's type, and raises a ValueError whose message is what
is allowed; `settings` prepends the variable and its value.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Network, IPv6Network, ip_network
from types import MappingProxyType
from typing import Annotated, Final, Literal
from urllib.parse import SplitResult, parse_qsl, urlsplit

from pydantic import BeforeValidator

from callbacks.request.environment import ENVIRONMENT, ENVIRONMENT_FORMAT
from callbacks.request.signature import SECRET_FORMAT, decode_secret
from callbacks.request.urls import normal_host

_SHORTEST_S: Final = 0.001  # whole milliseconds are stored: less would become 0
_LONGEST_RETRY_S: Final = 7 * 86_400
_MOST_RETRIES: Final = 100

_NAMESPACE: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_ACTOR: Final = re.compile(r"[^\W\d][\w.-]{0,127}")
_USER_INFO: Final = re.compile(r"^([a-z]+://)?.*@", re.DOTALL)
_NAME: Final = re.compile(r"[a-z_]{1,40}")
#: The allowed options of a Redis URL: the pattern of each value, and its description.
_QUERY_VALUES: Final = MappingProxyType(
    {"db": "[0-9]{1,9}"} | dict.fromkeys(("ssl_ca_certs", "ssl_certfile", "ssl_keyfile"), "/.+")
)
_QUERY_FORMS: Final = MappingProxyType(
    {name: "a number" if name == "db" else "an absolute path" for name in _QUERY_VALUES}
)
_QUERY: Final = "only db, ssl_ca_certs, ssl_certfile and ssl_keyfile after the ?"
_INSTEAD: Final = MappingProxyType(
    dict.fromkeys(("ssl_cert_reqs", "ssl_check_hostname"), "CALLBACKS_REDIS_TLS_VERIFY")
    | dict.fromkeys(("socket_timeout", "socket_connect_timeout"), "CALLBACKS_REDIS_TIMEOUT")
    | {"timeout": "CALLBACKS_REDIS_TIMEOUT"}
    | {"max_connections": "CALLBACKS_REDIS_MAX_CONNECTIONS"}
)
_SWITCH: Final = MappingProxyType(
    {"true": True, "1": True, "yes": True, "on": True}
    | {"false": False, "0": False, "no": False, "off": False}
)


def without_password(url: str) -> str:
    """A Redis URL for output: without user info and query, which may contain passwords."""
    shown = _USER_INFO.sub(r"\1", url).partition("?")[0]
    try:
        _ = urlsplit(shown).port  # if it is not a number, it may be a password with its @ missing
    except ValueError:
        return f"{url.partition('://')[0]}://..."
    return shown


def seconds(low: float, high: float) -> BeforeValidator:
    """A duration; at least a millisecond, or 0 if `low` is 0."""
    bounds = f"{'0, or ' * (low == 0)}{max(low, _SHORTEST_S):g} to {high:.15g}"
    allowed = f"{bounds} seconds, without a unit (such as 2.5)"

    def parse(value: object) -> float:
        return _seconds(value, low, high, allowed)

    return BeforeValidator(parse)


def share() -> BeforeValidator:
    """A number from 0 to 1."""
    allowed = "a number from 0 to 1"

    def parse(value: object) -> float:
        try:
            number = float(_text(value, allowed))
        except ValueError:
            raise ValueError(allowed) from None
        if not 0 <= number <= 1:
            raise ValueError(allowed)
        return number

    return BeforeValidator(parse)


def whole(low: int, high: int) -> BeforeValidator:
    """An integer from `low` to `high`."""
    allowed = f"a whole number from {low} to {high}"

    def parse(value: object) -> int:
        try:
            number = int(_text(value, allowed))
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
    allowed = "redis://host:port/db, rediss://host:port/db or unix:///path"
    url = _text(value, allowed)
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise ValueError(allowed) from None
    over_tcp = parts.scheme in ("redis", "rediss") and parts.hostname
    # redis-py would silently use database 0 if the path is not a number.
    right_path = over_tcp and re.fullmatch(r"/?|/[0-9]+", parts.path)
    is_socket = parts.scheme == "unix" and parts.path
    if not (right_path or is_socket) or parts.fragment or re.search(r"\s", url):
        raise ValueError(allowed)
    _check_query(parts)
    return url


def _check_query(parts: SplitResult) -> None:
    """Allow only the options that make sense in a Redis URL.

    redis-py would accept any name as one of its arguments, and let it override our client's.
    """
    given = parse_qsl(parts.query, keep_blank_values=True)
    names = [name for name, _ in given]
    if parts.query and not given:
        raise ValueError(_QUERY)
    for name, value in given:
        allowed = _QUERY_VALUES.get(name)
        if allowed is None:
            # It may be part of a password with a ? in it, and is shown only if it cannot be.
            known = _NAME.fullmatch(name) and "@" not in parts.query
            raise ValueError(f"{_QUERY}{f', not {name}' if known else ''}{_instead(name)}")
        if names.count(name) > 1 or not re.fullmatch(allowed, value):
            raise ValueError(f"{_QUERY}; {name} once, as {_QUERY_FORMS[name]}")
    if "db" in names and parts.scheme != "unix" and parts.path.strip("/"):
        raise ValueError(f"{_QUERY}; the database once, as /db or as db")
    if any(name.startswith("ssl_") for name in names) and parts.scheme != "rediss":
        raise ValueError(f"{_QUERY}; certificates with rediss:// only")


def _instead(name: str) -> str:
    variable = _INSTEAD.get(name)
    return f" (use {variable})" if variable else ""


def _parse_namespace(value: object) -> str:
    return _matching(value, _NAMESPACE, "letters, digits, '_', '.' and '-', at most 64 characters")


def _parse_environment(value: object) -> str:
    return _matching(value, ENVIRONMENT, ENVIRONMENT_FORMAT)


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
Hosts = Annotated[frozenset[str], BeforeValidator(_parse_hosts)]
Networks = Annotated[tuple[IPv4Network | IPv6Network, ...], BeforeValidator(_parse_networks)]
Secrets = Annotated[tuple[str, ...], BeforeValidator(_parse_secrets)]
LogFormat = Annotated[Literal["logfmt", "json", "console"], one_of("logfmt", "json", "console")]
