"""Callback URLs: which are accepted, their normal form, and the destination of each.

Pure: no name is looked up. Which addresses may be reached is decided when connecting.

The normal form is stored, and sent byte for byte. So it changes nothing that a receiver could
distinguish (of RFC 3986, section 6.2.2, it applies only the case of scheme and host): `%7e` stays
`%7e`, dot segments and an empty query stay, and only characters that are not allowed in a URL are
percent-encoded. A URL that two parsers read as different hosts is refused.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from typing import Final
from urllib.parse import SplitResult, quote, unquote, urlsplit

import idna
from urllib3.util import parse_url

from callbacks.model import InvalidCallback

MAX_URL_BYTES: Final = 2_048
MAX_HOST_CHARS: Final = 253  # RFC 1035, section 2.3.4, as text without the final dot

#: URLs to cache: parsing one takes longer than the rest of an enqueue, and bursts have few URLs.
_REMEMBERED: Final = 4_096

#: Where the search for the `/` or `#` after a host starts: after `https://` or `http://`.
_PAST_SCHEME: Final = 8
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
# RFC 3986's reserved and unreserved characters, and "%", to keep what is already encoded.
_URL_SAFE: Final = "/:?#[]@!$&'()*+,;=-._~%"
# RFC 952 does not allow underscores in a host name, but such names resolve and are in use.
_LABEL: Final = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")
#: A URL in a text, up to what ends it there; `/` alone is no path to hide.
_URL_WITH_PATH: Final = re.compile(
    r"(?P<origin>https?://[^\s/?#\"'<>]+)(?P<path>/[^\s?#\"'<>]+)(?:\?[^\s#\"'<>]*)?"
)
_PUNCTUATION: Final = ".,:;)"
_DIGEST_CHARS: Final = 12
_MASKED: Final = re.compile(rf"/~[0-9a-f]{{{_DIGEST_CHARS}}}(?:#.*)?")
_STRAY_PERCENT: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")


@dataclass(frozen=True, slots=True)
class Url:
    """The parts of a URL in normal form. The query is None if there is no `?`."""

    scheme: str
    host: str
    port: int
    path: str
    query: str | None

    @property
    def origin(self) -> str:
        return f"{self.scheme}://{self.host}:{self.port}"

    @property
    def request_target(self) -> str:
        """The target in the request line (RFC 9112, section 3.2.1)."""
        return self.path if self.query is None else f"{self.path}?{self.query}"

    @property
    def authority(self) -> str:
        """The value of the Host header: the host, and its port unless that is the default."""
        is_default = self.port == _DEFAULT_PORTS[self.scheme]
        return self.host if is_default else f"{self.host}:{self.port}"

    @property
    def text(self) -> str:
        return f"{self.scheme}://{self.authority}{self.request_target}"


def read_url(callback_url: object) -> Url:
    """Parse a URL; if it is in normal form, `text` is the same URL. Raises InvalidCallback."""
    if not isinstance(callback_url, str):
        raise _invalid(f"is of type {type(callback_url).__name__}; expected a str")
    return _read_text(callback_url)


def normal_url(callback_url: object, *, https_only: bool = False) -> str:
    """The URL as it is stored and sent: ASCII, host in normal form, no default port or fragment.

    Raises InvalidCallback for the field `callback_url`, without the URL, which may contain a
    password.
    """
    url = read_url(callback_url)
    if https_only and url.scheme != "https":
        raise _invalid("is http://; expected https:// (CALLBACKS_HTTPS_ONLY is set)")
    _check_length(url.text)
    return url.text


def destination_of(callback_url: str, *, lane: str | None, shared_hosts: Collection[str]) -> str:
    """The destination of a URL: `scheme://host:port`, or finer.

    Each lane is a destination of its own. Without a lane, each path of a shared host is one;
    `shared_hosts` are in normal form, see `normal_host`.
    """
    url = read_url(callback_url)
    if lane is not None:
        return f"{url.origin}#{quote(lane, safe='')}"
    return url.origin + url.path if url.host in shared_hosts else url.origin


@dataclass(frozen=True, slots=True)
class Scope:
    """What an operator's destination covers: one alone, or a host with all its lanes and paths."""

    name: str
    lanes: bool = False

    @property
    def mark(self) -> str:
        """The name under which all lanes of the host are paused, see `keys`."""
        return f"{self.name}#*"

    def covers(self, destination: str) -> bool:
        """Whether a destination is in this scope."""
        return destination == self.name or (self.lanes and host_of(destination) == self.name)


def scope_of(text: str, *, shared_hosts: Collection[str]) -> Scope:
    """Parse a destination as it is shown, or any URL that belongs to it.

    `https://host` is the host with all its lanes, `https://host#lane` one lane, `https://host#`
    the host without its lanes. On a shared host a URL with a path is that path alone.
    Raises InvalidCallback.
    """
    url, mark, lane = text.partition("#")
    origin = read_url(url).origin
    if mark and lane != "*":
        named = destination_of(url, lane=unquote(lane), shared_hosts=shared_hosts) if lane else ""
        return Scope(named or _without_lane(url, shared_hosts))
    named = _without_lane(url, shared_hosts)
    return Scope(origin, lanes=True) if named in {origin, f"{origin}/"} else Scope(named)


def _without_lane(url: str, shared_hosts: Collection[str]) -> str:
    return destination_of(url, lane=None, shared_hosts=shared_hosts)


def host_of(destination: str) -> str:
    """The host of a destination, without lane and path."""
    end = re.search("[/#]", destination[_PAST_SCHEME:])
    return destination[: _PAST_SCHEME + end.start()] if end else destination


def lanes_and_paths(names: Iterable[str]) -> tuple[int, int]:
    """How many of one host's destinations are lanes, and how many are paths; itself is neither."""
    others = [name for name in names if host_of(name) != name]
    lanes = sum("#" in name for name in others)
    return lanes, len(others) - lanes


def path_of(target: str) -> str:
    """The path of a URL or destination, without its first slash; may be empty."""
    return target.partition("://")[2].partition("#")[0].partition("?")[0].partition("/")[2]


def display_url(url: str) -> str:
    """The URL for output and logs: without user info, query and fragment; never raises."""
    try:
        parts = urlsplit(url)
        _ = parts.port  # if it is not a number, it may be half of a password with a slash
    except ValueError:
        return "(not a URL)"
    host = parts.netloc.rpartition("@")[2]
    if not (parts.scheme and host):
        return "(not a URL)"
    shown = f"{parts.scheme}://{host}{parts.path}"
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in shown)


def masked(text: str) -> str:
    """Replace the path of each URL in a text, and its query, by a digest of the path.

    For hosts where the path is the secret (`CALLBACKS_MASK_PATHS`). The same path has the same
    digest everywhere, so that what belongs together is still recognized. A lane stays.
    """
    return _URL_WITH_PATH.sub(_mask, text)


def _mask(found: re.Match[str]) -> str:
    path = found["path"].rstrip(_PUNCTUATION)  # that of the sentence
    if len(path) < 2 or _MASKED.fullmatch(path):
        return found[0]
    hidden = hashlib.sha256(path.encode()).hexdigest()[:_DIGEST_CHARS]
    return f"{found['origin']}/~{hidden}{found['path'].removeprefix(path)}"


def is_masked(destination: str) -> bool:
    """Whether this is a destination as `masked` shows it."""
    return _MASKED.fullmatch(destination.removeprefix(host_of(destination))) is not None


def digest(url: str) -> str:
    """The key of a URL's 410 mark. SHA-1, as Lua scripts can compute it; not for security."""
    return hashlib.sha1(url.encode(), usedforsecurity=False).hexdigest()


def normal_host(host: str) -> str:
    """The normal form of a host: lower case, IDNA-encoded, IPv6 compressed and in brackets.

    One final dot is dropped. Raises ValueError, whose message completes "the host ...".
    """
    if ":" in host:
        return f"[{_ipv6(host.removeprefix('[').removesuffix(']')).compressed}]"
    name = host.lower().removesuffix(".")
    if not name.isascii():
        name = _idna(name)
    if len(name) > MAX_HOST_CHARS:
        raise ValueError(f"is over {MAX_HOST_CHARS} characters")
    labels = name.split(".")
    for label in labels:
        _check_label(label)
    if _NUMBER.fullmatch(labels[-1]):
        _check_ipv4(name)
    return name


@lru_cache(maxsize=_REMEMBERED)
def _read_text(callback_url: str) -> Url:
    text = _check_text(callback_url)
    try:
        parts = urlsplit(text)
    except ValueError:
        raise _invalid("cannot be read as a URL; expected https://host/path") from None
    if parts.scheme not in _DEFAULT_PORTS:
        scheme = f"has the scheme {parts.scheme[:20]!r}" if parts.scheme else "has no scheme"
        raise _invalid(f"{scheme}; expected https:// or http://")
    if "@" in parts.netloc:
        raise _invalid("has user info; expected none (send credentials in `headers`)")
    if not parts.hostname:
        raise _invalid("has no host; expected https://host/path")
    host, port = _read_alike(text, parts)
    has_query = "?" in text.partition("#")[0]
    return Url(
        scheme=parts.scheme,
        host=host,
        port=_DEFAULT_PORTS[parts.scheme] if port is None else port,
        path=_encoded(parts.path or "/"),
        query=_encoded(parts.query) if has_query else None,
    )


def _encoded(text: str) -> str:
    """Percent-encode characters not allowed in a path or query, and any stray `%`."""
    return quote(_STRAY_PERCENT.sub("%25", text), safe=_URL_SAFE)


def _check_text(callback_url: str) -> str:
    # Parsers silently drop or move these characters, each in its own way.
    if any(char.isspace() or not char.isprintable() for char in callback_url):
        raise _invalid("has whitespace or control characters; expected none")
    if "\\" in callback_url:
        raise _invalid("has a backslash; expected none")
    _check_length(callback_url)
    return callback_url


def _check_length(url: str) -> None:
    size = len(url.encode())
    if size > MAX_URL_BYTES:
        raise _invalid(f"has {size:,} bytes; expected at most {MAX_URL_BYTES:,}")


def _read_alike(text: str, parts: SplitResult) -> tuple[str, int | None]:
    """Host and port, if two independent parsers agree on them."""
    port = _port(parts)
    host = _host(parts.hostname or "")
    try:
        other = parse_url(text)
        other_reading = (normal_host(other.host or ""), other.port)
    except ValueError:
        raise _invalid("cannot be read as a URL; expected https://host/path") from None
    if other_reading != (host, port):
        raise _invalid("is ambiguous: parsers read different hosts or ports in it; expected one")
    return host, port


def _port(parts: SplitResult) -> int | None:
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port == 0:
        raise _invalid("has a port out of range; expected 1 to 65535")
    return port


def _host(name: str) -> str:
    try:
        return normal_host(name)
    except ValueError as error:
        raise _invalid(f"has a bad host: it {error}") from None


def _ipv6(text: str) -> IPv6Address:
    try:
        address = IPv6Address(text)
    except ValueError:
        raise ValueError("is not an IPv6 address") from None
    if address.scope_id is not None:
        raise ValueError("has an IPv6 zone; expected none")
    return address


def _idna(name: str) -> str:
    try:
        return idna.encode(name).decode("ascii")
    except UnicodeError:  # the base of idna's own errors
        raise ValueError("cannot be IDNA-encoded") from None


def _check_label(label: str) -> None:
    if not label:
        raise ValueError("has an empty label")
    if not _LABEL.fullmatch(label):
        raise ValueError(
            "has a bad label; expected letters, digits and inner hyphens, at most 63 characters"
        )
    if label.startswith("xn--"):
        try:
            idna.decode(label)
        except UnicodeError:
            raise ValueError("has a bad xn-- label") from None


def _check_ipv4(name: str) -> None:
    """Refuse 127.1, 0x7f.1 and 2130706433, which only some parsers read as addresses."""
    try:
        IPv4Address(name)
    except ValueError:
        raise ValueError("ends in a number but is not an IPv4 address such as 192.0.2.1") from None


def _invalid(problem: str) -> InvalidCallback:
    return InvalidCallback("callback_url", problem)
