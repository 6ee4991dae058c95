"""The forms of a Redis URL: one server, the servers that Sentinels watch, or a cluster.

`redis://host:port/db`, `unix:///path`, `redis+sentinel://host:port,host:port/MASTER/DB` and
`redis+cluster://host:port,host:port`; `rediss` instead of `redis` for TLS.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType
from typing import Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

_ALLOWED: Final = (
    "redis://host:port/db, rediss://host:port/db, unix:///path,"
    " redis+sentinel://host:port,host:port/MASTER/DB or redis+cluster://host:port,host:port"
)
_USER_INFO: Final = re.compile(r"^([a-z+]+://)?.*@", re.DOTALL)
_NAME: Final = re.compile(r"[a-z_]{1,40}")
#: The allowed options of a Redis URL: the pattern of each value, and its description.
_QUERY_VALUES: Final = MappingProxyType(
    {"db": "[0-9]{1,9}", "sentinel_username": ".+", "sentinel_password": ".+"}
    | dict.fromkeys(("ssl_ca_certs", "ssl_certfile", "ssl_keyfile"), "/.+")
)
_QUERY_FORMS: Final = MappingProxyType(
    dict.fromkeys(_QUERY_VALUES, "an absolute path")
    | {"db": "a number", "sentinel_username": "a name", "sentinel_password": "a password"}
)
_CERTIFICATES: Final = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_INSTEAD: Final = MappingProxyType(
    dict.fromkeys(("ssl_cert_reqs", "ssl_check_hostname"), "CALLBACKS_REDIS_TLS_VERIFY")
    | dict.fromkeys(("socket_timeout", "socket_connect_timeout"), "CALLBACKS_REDIS_TIMEOUT")
    | {"timeout": "CALLBACKS_REDIS_TIMEOUT"}
    | {"max_connections": "CALLBACKS_REDIS_MAX_CONNECTIONS"}
)


class Form(Enum):
    """What a Redis URL leads to."""

    SERVER = "server"
    SENTINEL = "sentinel"
    CLUSTER = "cluster"


_OPTIONS: Final[Mapping[Form, tuple[str, ...]]] = MappingProxyType(
    {
        Form.SERVER: ("db", *_CERTIFICATES),
        Form.SENTINEL: ("sentinel_username", "sentinel_password", *_CERTIFICATES),
        Form.CLUSTER: _CERTIFICATES,
    }
)
_PORTS: Final = MappingProxyType({Form.SENTINEL: 26_379, Form.CLUSTER: 6_379})


@dataclass(frozen=True, slots=True)
class RedisPlace:
    """Where Redis is, read from a URL that `check` has accepted.

    `hosts`: of the Sentinels or of some nodes of the cluster; empty for one server, to which
    redis-py itself reads the way from the URL. `master`: the name by which Sentinels know the
    servers. `options`: what was after the ?.
    """

    form: Form
    tls: bool
    hosts: tuple[tuple[str, int], ...] = ()
    master: str = ""
    db: int = 0
    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    options: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), repr=False)

    @property
    def certificates(self) -> dict[str, str]:
        """The options that name files for TLS."""
        return {name: value for name, value in self.options.items() if name in _CERTIFICATES}


def form_of(url: str) -> Form:
    """Tell by its scheme what a URL leads to."""
    end = url.partition("://")[0].partition("+")[2]
    return Form(end) if end else Form.SERVER


def without_password(url: str) -> str:
    """A Redis URL for output: without user info and query, which may contain passwords."""
    shown = _USER_INFO.sub(r"\1", url).partition("?")[0]
    try:
        # If a port is not a number, it may be a password with its @ missing.
        for host in urlsplit(shown).netloc.split(","):
            _ = urlsplit(f"//{host}").port
    except ValueError:
        return f"{url.partition('://')[0]}://..."
    return shown


def check(url: str) -> str:
    """Return a URL whose form is right; raises ValueError with what is allowed."""
    try:
        parts = urlsplit(url)
        form = form_of(url)
        right = _is_right(parts, form)
    except ValueError:
        raise ValueError(_ALLOWED) from None
    if not right or parts.fragment or re.search(r"\s", url):
        raise ValueError(_ALLOWED)
    _check_query(parts, form)
    return url


def read(url: str) -> RedisPlace:
    """Read a URL that `check` has accepted."""
    parts, form = urlsplit(url), form_of(url)
    tls = parts.scheme.startswith("rediss")
    options = MappingProxyType(dict(parse_qsl(parts.query)))
    if form is Form.SERVER:
        return RedisPlace(form, tls, options=options)
    master, _, db = parts.path.strip("/").partition("/")
    return RedisPlace(
        form,
        tls,
        tuple(_hosts(parts.netloc, _PORTS[form])),
        master if form is Form.SENTINEL else "",
        int(db or 0),
        _unquoted(parts.username),
        _unquoted(parts.password),
        options,
    )


def _unquoted(text: str | None) -> str | None:
    return unquote(text) if text else None


def _hosts(netloc: str, port: int) -> list[tuple[str, int]]:
    """Read several hosts, separated by commas; raises ValueError."""
    found = []
    for text in netloc.rpartition("@")[2].split(","):
        one = urlsplit(f"//{text}")
        if not one.hostname or one.netloc != text:
            raise ValueError(text)
        found.append((one.hostname, one.port or port))
    return found


def _is_right(parts: SplitResult, form: Form) -> bool:
    """Whether scheme, hosts and path fit; raises ValueError for a port that is none."""
    if form is not Form.SERVER:
        of_path = {Form.SENTINEL: r"/[\w.-]+(/[0-9]*)?", Form.CLUSTER: "(/0?)?"}[form]
        scheme = parts.scheme.partition("+")[0]
        _hosts(parts.netloc, _PORTS[form])
        return scheme in ("redis", "rediss") and bool(re.fullmatch(of_path, parts.path, re.ASCII))
    _ = parts.port
    if parts.scheme in ("redis", "rediss"):
        # redis-py would silently use database 0 if the path is not a number.
        return bool(parts.hostname and re.fullmatch(r"/?|/[0-9]+", parts.path))
    return parts.scheme == "unix" and bool(parts.path)


def _check_query(parts: SplitResult, form: Form) -> None:
    """Allow only the options that make sense in a Redis URL.

    redis-py would accept any name as one of its arguments, and let it override our client's.
    """
    given = parse_qsl(parts.query, keep_blank_values=True)
    names = [name for name, _ in given]
    options = _OPTIONS[form]
    only = f"only {', '.join(options[:-1])} and {options[-1]} after the ?"
    if parts.query and not given:
        raise ValueError(only)
    for name, value in given:
        if name not in options:
            # It may be part of a password with a ? in it, and is shown only if it cannot be.
            known = _NAME.fullmatch(name) and "@" not in parts.query
            raise ValueError(f"{only}{f', not {name}' if known else ''}{_instead(name)}")
        if names.count(name) > 1 or not re.fullmatch(_QUERY_VALUES[name], value):
            raise ValueError(f"{only}; {name} once, as {_QUERY_FORMS[name]}")
    if "db" in names and parts.scheme != "unix" and parts.path.strip("/"):
        raise ValueError(f"{only}; the database once, as /db or as db")
    if any(name in _CERTIFICATES for name in names) and not parts.scheme.startswith("rediss"):
        raise ValueError(f"{only}; certificates with {_secure(parts.scheme)}:// only")


def _secure(scheme: str) -> str:
    return "rediss" + "".join(scheme.partition("+")[1:])


def _instead(name: str) -> str:
    variable = _INSTEAD.get(name)
    return f" (use {variable})" if variable else ""
