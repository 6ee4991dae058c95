"""The one place where HTTP happens: a POST goes out, and an `Answer` comes back, in time.

How a request is sent decides which addresses may be reached, how long anything may take and
when a connection is used again. The URL is read by `urls`, as at enqueue: what it says of host,
port and destination is what is connected to, and its path and query go out as they are stored.

A connection that turns out dead when it is used again makes a `reset`, and nothing is sent a
second time in silence: nobody can tell whether the receiver acted on the first (RFC 9110,
section 9.2.2), and an attempt that counts once would hit it twice. Instead a connection is
checked before each use, and not used after the time that the receiver says it keeps it.
"""

from __future__ import annotations

import http.client
import os
import socket
import ssl
import time
import weakref
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from requests import exceptions as requests_errors
from requests.utils import DEFAULT_CA_BUNDLE_PATH, check_header_validity
from urllib3 import exceptions as urllib3_errors

from callbacks.delivery.connection import (
    Connect,
    Dialer,
    HttpResponse,
    Origin,
    Post,
    Unreachable,
    connection_to,
    open_socket,
)
from callbacks.delivery.deadline import Deadline
from callbacks.delivery.deadline_socket import HandshakeFailed
from callbacks.delivery.dns import Lookups, Resolver, system_addresses
from callbacks.delivery.guard import BlockedAddress, Guard
from callbacks.delivery.pool import IdlePool
from callbacks.delivery.response import BadReply, HeadTooLarge
from callbacks.model import Answer, InvalidCallback, Reason
from callbacks.request.urls import read_url

MAX_RESPONSE_BYTES: Final = 65_536

_MAX_DETAIL_CHARS: Final = 200
_MAX_RETRY_AFTER_CHARS: Final = 100

# What an exception means, by the nearest of its classes (in method resolution order). What
# is not in here is `protocol`: the request may have been received, so it is tried again.
REASONS: Final[Mapping[type[BaseException], Reason]] = MappingProxyType(
    {
        InvalidCallback: Reason.PROTOCOL,  # of a URL that `enqueue` would refuse today
        BlockedAddress: Reason.BLOCKED_ADDRESS,
        HeadTooLarge: Reason.TOO_LARGE,
        BadReply: Reason.PROTOCOL,
        Unreachable: Reason.CONNECT,
        HandshakeFailed: Reason.TLS,
        # The system's
        TimeoutError: Reason.TIMEOUT,
        socket.gaierror: Reason.DNS,
        socket.herror: Reason.DNS,
        UnicodeError: Reason.DNS,  # a host name that cannot be encoded
        ssl.SSLError: Reason.TLS,
        ssl.SSLEOFError: Reason.RESET,  # of a reply; in a handshake: HandshakeFailed
        ssl.SSLZeroReturnError: Reason.RESET,
        ConnectionRefusedError: Reason.CONNECT,
        ConnectionError: Reason.RESET,
        OSError: Reason.CONNECT,
        # http.client's
        http.client.HTTPException: Reason.PROTOCOL,
        http.client.RemoteDisconnected: Reason.RESET,
        http.client.IncompleteRead: Reason.RESET,
        http.client.LineTooLong: Reason.TOO_LARGE,
        # urllib3's
        urllib3_errors.HTTPError: Reason.PROTOCOL,
        urllib3_errors.TimeoutError: Reason.TIMEOUT,
        urllib3_errors.NewConnectionError: Reason.CONNECT,
        urllib3_errors.NameResolutionError: Reason.DNS,
        urllib3_errors.ProxyError: Reason.CONNECT,
        urllib3_errors.SSLError: Reason.TLS,
        urllib3_errors.IncompleteRead: Reason.RESET,
        urllib3_errors.LocationValueError: Reason.DNS,
        urllib3_errors.URLSchemeUnknown: Reason.PROTOCOL,
        # requests', which derive from OSError
        requests_errors.RequestException: Reason.PROTOCOL,
        requests_errors.ConnectionError: Reason.CONNECT,
        requests_errors.SSLError: Reason.TLS,
        requests_errors.Timeout: Reason.TIMEOUT,
        requests_errors.ConnectTimeout: Reason.TIMEOUT,
        requests_errors.ChunkedEncodingError: Reason.RESET,
        requests_errors.InvalidURL: Reason.DNS,
    }
)


class Transport:
    """Sends requests, for any number of threads at once. Times are seconds.

    `connect_timeout` bounds connecting to one address, and the TLS handshake after it;
    `read_timeout` one wait for the receiver; `deadline` the whole attempt, name lookup
    included. `tls_context` stands in for the default, which trusts the CAs that `requests`
    brings along; it has to verify certificates and host names, and refuse TLS before 1.2.
    """

    def __init__(
        self,
        *,
        guard: Guard,
        connect_timeout: float,
        read_timeout: float,
        deadline: float,
        resolve: Resolver = system_addresses,
        connect: Connect = open_socket,
        tls_context: ssl.SSLContext | None = None,
        max_response_bytes: int = MAX_RESPONSE_BYTES,
    ) -> None:
        self._exchanges = _Exchanges(
            guard=guard,
            connect_timeout=connect_timeout,
            read_timeout=read_timeout,
            deadline=deadline,
            resolve=resolve,
            connect=connect,
            tls_context=_checked(tls_context) if tls_context else _default_tls_context(),
            max_response_bytes=max_response_bytes,
        )

    def post(
        self,
        url: str,
        headers: Mapping[str, str],
        body: bytes,
        *,
        spent_s: float = 0,
        proven: bool = False,
    ) -> Answer:
        """Send one request and tell what came of it; `spent_s` of the deadline are over already.

        `proven`: the receiver has answered lately, so it does not wait behind those that hang.
        Whatever the receiver, the network or the URL is like, that is an Answer, whose duration
        ends with the reply's head, which is the verdict. Only what the caller did wrong (headers
        that are none, a body that is not bytes) is raised.
        """
        if not isinstance(body, bytes):
            raise TypeError(f"body is {type(body).__name__}, expected bytes")
        started = time.monotonic()
        try:
            reply = self._exchanges.send(*_prepared(url, headers, body), spent_s, proven=proven)
        except requests_errors.InvalidHeader:
            raise
        except Exception as error:  # noqa: BLE001 -- its class is looked up, see REASONS
            return Answer(
                status=None,
                fault=reason_of(error),
                detail=detail_of(error),
                duration_ms=_ms(time.monotonic() - started),
            )
        return Answer(
            status=reply.head.status,
            fault=None,
            retry_after=_printable(reply.head.first("retry-after")),
            duration_ms=_ms(reply.came_at - started),
        )

    def close(self) -> None:
        """Close idle connections; those in use are closed as soon as they are not."""
        self._exchanges.close()


def reason_of(error: BaseException) -> Reason:
    """What an exception means, by `REASONS`; `protocol` for what is not in there."""
    found = (REASONS[cls] for cls in type(error).__mro__ if cls in REASONS)
    return next(found, Reason.PROTOCOL)


def detail_of(error: BaseException) -> str:
    """One line about an exception. Texts of libraries stay out of it: they repeat the URL."""
    match error:
        case InvalidCallback():
            text = f"the URL cannot be sent to: it {error.problem}"
        case BlockedAddress() | BadReply() | HeadTooLarge():
            text = str(error)
        case requests_errors.RequestException():
            text = f"the request cannot be sent ({type(error).__name__})"
        case ssl.SSLError():
            text = _tls_problem(error)
        case OSError():
            text = error.strerror or str(error)
        case _:
            text = f"{type(error).__name__} in {_place_of(error)}"
    return " ".join(text.split())[:_MAX_DETAIL_CHARS]


class _Exchanges:
    """Sends requests, each over a connection that is checked, bounded and its own.

    `requests` validates their headers and brings the CAs. Its session and adapter are left out:
    they would rewrite the URL, and parse cookies, redirects and encodings of an answer of which
    only the status and `Retry-After` count.
    """

    def __init__(
        self,
        *,
        guard: Guard,
        connect_timeout: float,
        read_timeout: float,
        deadline: float,
        resolve: Resolver,
        connect: Connect,
        tls_context: ssl.SSLContext,
        max_response_bytes: int,
    ) -> None:
        self._deadline = deadline
        self._max_response_bytes = max_response_bytes
        self._idle = IdlePool()
        self._dialer = Dialer(
            guard=guard,
            lookups=Lookups(resolve),
            connect=connect,
            tls_context=tls_context,
            connect_timeout=connect_timeout,
            read_timeout=read_timeout,
        )
        _all_exchanges.add(self)

    def send(self, origin: Origin, post: Post, spent_s: float, *, proven: bool) -> HttpResponse:
        """Send it and read its reply; raises what `REASONS` tells the meaning of."""
        deadline = Deadline(self._deadline - spent_s)
        connection = self._idle.take(origin)
        if connection is None:
            channel = self._dialer.dial(origin, deadline, proven=proven)
            connection = connection_to(origin, channel)
        try:
            reply = connection.exchange(post, deadline)
            connection.finish(reply, self._max_response_bytes)
        except BaseException:
            connection.close()
            raise
        self._idle.put(connection)
        return reply

    def close(self) -> None:
        self._idle.close()

    def reset_after_fork(self) -> None:
        """In a forked child: two processes must not talk on one connection.

        Locks are made anew too, for a thread that is not in the child may have held them.
        """
        idle, self._idle = self._idle, IdlePool()
        idle.forget()


_all_exchanges: Final[weakref.WeakSet[_Exchanges]] = weakref.WeakSet()


def _reset_all_after_fork() -> None:
    for exchanges in list(_all_exchanges):
        exchanges.reset_after_fork()


os.register_at_fork(after_in_child=_reset_all_after_fork)


def _prepared(url: str, headers: Mapping[str, str], body: bytes) -> tuple[Origin, Post]:
    for header in headers.items():
        check_header_validity(header)
    read = read_url(url)
    origin = Origin(read.scheme, read.host.strip("[]"), read.port)
    return origin, Post(read.request_target, headers, body)


def _printable(text: str | None) -> str | None:
    if text is None:
        return None
    return "".join(char for char in text[:_MAX_RETRY_AFTER_CHARS] if char.isprintable())


def _default_tls_context() -> ssl.SSLContext:
    """Not `ssl.create_default_context`: it reads SSL_CERT_FILE and SSLKEYLOGFILE."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # verifies certificates and host names
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.hostname_checks_common_name = False
    context.load_verify_locations(cafile=DEFAULT_CA_BUNDLE_PATH)
    context.set_alpn_protocols(["http/1.1"])
    return context


def _checked(context: ssl.SSLContext) -> ssl.SSLContext:
    if context.verify_mode is not ssl.CERT_REQUIRED or not context.check_hostname:
        raise ValueError("tls_context does not verify certificates and host names")
    if context.minimum_version < ssl.TLSVersion.TLSv1_2:
        raise ValueError("tls_context allows TLS before 1.2")
    return context


def _ms(seconds: float) -> int:
    return round(seconds * 1_000)


def _tls_problem(error: ssl.SSLError) -> str:
    """Without `(_ssl.c:1006)`. An error that was not made by OpenSSL has neither attribute."""
    refused = getattr(error, "verify_message", None)
    if refused:
        return f"the certificate was refused: {refused}"
    reason = getattr(error, "reason", None) or "unknown reason"
    return f"TLS failed: {reason.replace('_', ' ').lower()}"


def _place_of(error: BaseException) -> str:
    """Where it was raised; its text may repeat the request, a line number does not."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return "an unknown place"
    return f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}"
