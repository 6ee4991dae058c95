"""An adapter for `requests` that connects to checked addresses only, within a deadline.

URLs are read by `urls`, as at enqueue: it connects to the host and port found there, and sends
path and query unchanged.

If a reused connection turns out to be dead, that is a reset: the request is not silently sent
again, because the receiver may have acted on the first one (RFC 9110, section 9.2.2), and an
attempt that counts once would hit it twice. Instead, each connection is checked before it is
reused, and not used for longer than the receiver says it keeps it.
"""

from __future__ import annotations

import re
import ssl
import time
from collections.abc import Iterable, Mapping
from datetime import timedelta
from ipaddress import ip_network
from types import MappingProxyType
from typing import Any, Final, cast

from requests import PreparedRequest, Response
from requests import exceptions as errors
from requests.adapters import BaseAdapter
from requests.utils import DEFAULT_CA_BUNDLE_PATH, select_proxy

from callbacks.delivery.connection import Connection, Origin
from callbacks.delivery.deadline import Deadline, Limits, Stopwatch
from callbacks.delivery.deadline_socket import HandshakeFailed
from callbacks.delivery.dialer import Connect, ConnectTimedOut, Dialer, open_socket
from callbacks.delivery.dns import Lookups, Resolver, system_addresses
from callbacks.delivery.faults import detail_of, nearest
from callbacks.delivery.guard import BlockedAddress, Guard, Network
from callbacks.delivery.pool import IdlePool
from callbacks.delivery.reply import Reply
from callbacks.delivery.wire import own_headers, request_bytes, response_of
from callbacks.forks import renew_after_fork
from callbacks.model import CallbacksError, InvalidCallback
from callbacks.request.urls import read_url

MAX_RESPONSE_BYTES: Final = 1_048_576
#: How much is read of the body of an answer that is a failure.
START_BYTES: Final = 2_048

_METHOD: Final = re.compile("[A-Z]+(-[A-Z]+)*")
_TRUST_ENV: Final = "set trust_env = False on the session where it comes from the environment"


class BlockedURL(errors.InvalidURL):
    """The URL leads to an address that is neither public nor allowed; nothing was sent."""


class ResponseTooLarge(errors.RequestException):
    """The response's body exceeds the adapter's `max_response_bytes`."""


# What `send` raises for an exception, looked up by its nearest class.
_ERRORS: Final[Mapping[type[BaseException], type[errors.RequestException]]] = MappingProxyType(
    {
        InvalidCallback: errors.InvalidURL,
        UnicodeError: errors.InvalidURL,
        BlockedAddress: BlockedURL,
        ConnectTimedOut: errors.ConnectTimeout,
        TimeoutError: errors.ReadTimeout,
        HandshakeFailed: errors.SSLError,
        ssl.SSLError: errors.SSLError,
        ssl.SSLEOFError: errors.ConnectionError,
        ssl.SSLZeroReturnError: errors.ConnectionError,
    }
)


class GuardedAdapter(BaseAdapter):
    """Sends the requests of a `requests.Session`; thread-safe. Times are in seconds.

    `allowed_networks` may be reached although they are not public. `connect_timeout` bounds
    connecting to one address, and the TLS handshake after it; `read_timeout` each wait for the
    receiver; `deadline` the whole request, from the name lookup to the end of the body.
    `tls_context` replaces the default, which trusts the CAs bundled with `requests`; it has to
    verify certificates and host names, and to refuse TLS before 1.2. `resolve` and `connect`
    replace the system's.
    """

    def __init__(
        self,
        *,
        allowed_networks: Iterable[str | Network] = (),
        connect_timeout: float = 3,
        read_timeout: float = 7,
        deadline: float = 10,
        max_response_bytes: int = MAX_RESPONSE_BYTES,
        tls_context: ssl.SSLContext | None = None,
        resolve: Resolver = system_addresses,
        connect: Connect = open_socket,
    ) -> None:
        super().__init__()
        if isinstance(allowed_networks, str):
            raise TypeError(f"allowed_networks={allowed_networks!r}: expected a list of networks")
        self._times = connect_timeout, read_timeout, deadline
        if not all(map(_is_duration, self._times)):
            names = "connect_timeout, read_timeout, deadline"
            raise ValueError(f"{names} = {self._times}: expected seconds above 0")
        self._max_response_bytes = max_response_bytes
        self._idle = IdlePool()
        self._dialer = Dialer(
            guard=Guard([ip_network(network) for network in allowed_networks]),
            lookups=Lookups(resolve),
            connect=connect,
            tls_context=_checked(tls_context) if tls_context else default_tls_context(),
        )
        renew_after_fork(self)

    def send(  # noqa: PLR0917 - BaseAdapter's signature
        self,
        request: PreparedRequest,
        stream: bool = False,
        timeout: float | tuple[float | None, float | None] | None = None,
        verify: bool | str = True,
        cert: Any = None,
        proxies: Mapping[str, str] | None = None,
    ) -> Response:
        """Send a request and return its response, with the whole body read.

        `timeout` overrides the adapter's connect and read timeouts, but not its deadline.
        Raises ValueError for unsupported arguments, `BlockedURL` (an InvalidURL),
        `ResponseTooLarge`, and requests' ConnectTimeout, ReadTimeout, SSLError, ConnectionError,
        InvalidURL, InvalidHeader, ChunkedEncodingError and ContentDecodingError.
        """
        _refuse_what_is_not_done(request, stream=stream, verify=verify, cert=cert)
        if select_proxy(request.url or "", proxies):
            raise ValueError(f"proxies: a proxy connects to unchecked addresses; {_TRUST_ENV}")
        limits = self.limits(*_both(timeout))
        started = time.monotonic()
        try:
            reply = self.exchange(_plain(request), limits, with_body=True)
        except errors.RequestException as error:
            error.request = request
            raise
        except (OSError, CallbacksError, UnicodeError) as error:
            kind = nearest(_ERRORS, error, errors.ConnectionError)
            raise kind(detail_of(error), request=request) from error
        response = response_of(request, reply)
        response.elapsed = timedelta(seconds=reply.came_at - started)
        response.connection = self  # type: ignore[assignment]  # an HTTPAdapter sets itself
        return response

    def limits(
        self, connect_s: float | None = None, read_s: float | None = None, *, spent_s: float = 0
    ) -> Limits:
        """The limits of a request that starts now; `spent_s` of its deadline is already used."""
        connect_timeout, read_timeout, deadline = self._times
        return Limits(
            connect_timeout if connect_s is None else connect_s,
            read_timeout if read_s is None else read_s,
            Deadline(deadline - spent_s),
            Stopwatch(),
        )

    def exchange(
        self,
        request: PreparedRequest,
        limits: Limits,
        *,
        proven: bool = False,
        with_body: bool = False,
    ) -> Reply:
        """Send a request and return the raw reply; `with_body`: with its whole body.

        Without, only the head counts, and the body is discarded, quickly or not at all, to reuse
        the connection; of a failure, the first bytes are read, which may say why. `proven`: the
        name lookup does not queue behind those of receivers that hang. Raises the exceptions
        listed in `faults`, and requests' InvalidHeader.
        """
        url = read_url(request.url)
        message = request_bytes(request, url)
        origin = Origin(url.scheme, url.host.strip("[]"), url.port)
        idle = self._idle.take(origin)
        connection = idle or self._dialer.dial(origin, limits, proven=proven)
        limits.watch.reused = idle is not None
        most = self._max_response_bytes
        try:
            kept = most if with_body else START_BYTES
            reply = connection.exchange(message, limits, body_limit=kept)
            if with_body:
                _read_body(connection, reply, request, most)
            elif reply.status >= 300:
                connection.read_start(reply, START_BYTES)
            connection.finish(reply, most)
        except BaseException:
            connection.close()
            raise
        self._idle.put(connection)
        return reply

    def idle_connections(self) -> int:
        """The number of idle connections that can be reused."""
        return self._idle.count()

    def close(self) -> None:
        """Close idle connections now, and those in use once their request ends."""
        self._idle.close()

    def reset_after_fork(self) -> None:
        """In a forked child, start with an empty pool: processes must not share connections.

        Its lock is new too, because a thread that does not exist in the child may have held it.
        """
        idle, self._idle = self._idle, IdlePool()
        idle.forget()


def default_tls_context() -> ssl.SSLContext:
    """Unlike `ssl.create_default_context`, does not read SSL_CERT_FILE and SSLKEYLOGFILE."""
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


def _refuse_what_is_not_done(
    request: PreparedRequest, *, stream: bool, verify: bool | str, cert: object
) -> None:
    if not _METHOD.fullmatch(request.method or "") or request.method == "CONNECT":
        raise ValueError(f"method: {request.method!r} cannot be sent")
    if stream:
        raise ValueError("stream=True: the whole body is always read within the deadline")
    if verify is not True:
        raise ValueError(f"verify={verify!r}: give the adapter a tls_context instead; {_TRUST_ENV}")
    if cert is not None:
        raise ValueError("cert: give the adapter a tls_context with that certificate instead")
    if not isinstance(request.body, bytes | str | None):
        raise ValueError(  # noqa: TRY004 - one error for everything unsupported
            "data: a body cannot be streamed; give it as bytes"
        )
    if "host" in request.headers:
        raise ValueError("headers: Host is taken from the URL, whose address is checked")


def _both(timeout: Any) -> tuple[float | None, float | None]:
    """Connect and read timeout, from the `timeout` argument of `requests`."""
    pair = timeout if isinstance(timeout, tuple) else (timeout, timeout)
    if len(pair) != 2 or not all(seconds is None or _is_duration(seconds) for seconds in pair):
        raise ValueError(f"timeout={timeout!r}: expected seconds above 0, or a pair of them")
    return pair


def _is_duration(seconds: object) -> bool:
    return isinstance(seconds, int | float) and seconds > 0


def _plain(request: PreparedRequest) -> PreparedRequest:
    """The same request without the headers that are generated when it is sent."""
    plain = request.copy()
    plain.headers = cast(Any, own_headers(request))
    return plain


def _read_body(connection: Connection, reply: Reply, request: PreparedRequest, most: int) -> None:
    if request.method == "HEAD":
        reply.skip_body()
        return
    if not connection.read_body(reply, most) or len(reply.body) > most:
        raise ResponseTooLarge(f"the response is over {most:,} bytes")
    if reply.fault:
        raise errors.ChunkedEncodingError(reply.fault)
    if reply.first("content-encoding") not in {None, "identity"}:
        raise errors.ContentDecodingError("the response is encoded although it must not be")
