"""Turns an attempt's exception into a reason and a one-line detail."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final, TypeVar

from callbacks.delivery.deadline_socket import HandshakeFailed
from callbacks.delivery.dialer import Unreachable
from callbacks.delivery.guard import BlockedAddress
from callbacks.delivery.reply import BadReply, HeadTooLarge
from callbacks.model import InvalidCallback, Reason

_T = TypeVar("_T")

_MAX_DETAIL_CHARS: Final = 200

# Looked up by the nearest class. Anything else is `protocol`, which is retried.
REASONS: Final[Mapping[type[BaseException], Reason]] = MappingProxyType(
    {
        InvalidCallback: Reason.PROTOCOL,  # a stored URL that `enqueue` would now refuse
        BlockedAddress: Reason.BLOCKED_ADDRESS,
        HeadTooLarge: Reason.TOO_LARGE,
        BadReply: Reason.PROTOCOL,
        Unreachable: Reason.CONNECT,
        HandshakeFailed: Reason.TLS,
        TimeoutError: Reason.TIMEOUT,
        socket.gaierror: Reason.DNS,
        UnicodeError: Reason.DNS,  # a host name that cannot be encoded
        ssl.SSLError: Reason.TLS,
        ssl.SSLEOFError: Reason.RESET,  # during a reply; in a handshake it is HandshakeFailed
        ssl.SSLZeroReturnError: Reason.RESET,
        ConnectionError: Reason.RESET,
        OSError: Reason.CONNECT,
    }
)


def nearest(table: Mapping[type[BaseException], _T], error: BaseException, default: _T) -> _T:
    """The table's entry for an exception's nearest class, in method resolution order."""
    return next((table[cls] for cls in type(error).__mro__ if cls in table), default)


def reason_of(error: BaseException) -> Reason:
    """The reason for an exception, by `REASONS`."""
    return nearest(REASONS, error, Reason.PROTOCOL)


def detail_of(error: BaseException) -> str:
    """Describe an exception in one line, without libraries' messages, which repeat the URL."""
    match error:
        case InvalidCallback():
            text = f"the URL cannot be sent to: it {error.problem}"
        case BlockedAddress() | BadReply() | HeadTooLarge():
            text = str(error)
        case ssl.SSLError():
            text = _tls_problem(error)
        case OSError():
            text = error.strerror or str(error)
        case _:
            text = f"{type(error).__name__} in {_place_of(error)}"
    return " ".join(text.split())[:_MAX_DETAIL_CHARS]


def _tls_problem(error: ssl.SSLError) -> str:
    """Describe it without `(_ssl.c:1006)`. Errors not from OpenSSL have neither attribute."""
    refused = getattr(error, "verify_message", None)
    if refused:
        return f"the certificate was refused: {refused}"
    reason = getattr(error, "reason", None) or "unknown reason"
    return f"TLS failed: {reason.replace('_', ' ').lower()}"


def _place_of(error: BaseException) -> str:
    """Where it was raised, instead of its message, which may repeat the request."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return "an unknown place"
    return f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}"
