"""What an exception of an attempt means, and one line about it for people."""

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

# By the nearest class. What is not in here is `protocol`: the request may have been received,
# so it is tried again.
REASONS: Final[Mapping[type[BaseException], Reason]] = MappingProxyType(
    {
        InvalidCallback: Reason.PROTOCOL,  # of a URL that `enqueue` would refuse today
        BlockedAddress: Reason.BLOCKED_ADDRESS,
        HeadTooLarge: Reason.TOO_LARGE,
        BadReply: Reason.PROTOCOL,
        Unreachable: Reason.CONNECT,
        HandshakeFailed: Reason.TLS,
        TimeoutError: Reason.TIMEOUT,
        socket.gaierror: Reason.DNS,
        UnicodeError: Reason.DNS,  # a host name that cannot be encoded
        ssl.SSLError: Reason.TLS,
        ssl.SSLEOFError: Reason.RESET,  # of a reply; in a handshake: HandshakeFailed
        ssl.SSLZeroReturnError: Reason.RESET,
        ConnectionError: Reason.RESET,
        OSError: Reason.CONNECT,
    }
)


def nearest(table: Mapping[type[BaseException], _T], error: BaseException, default: _T) -> _T:
    """What a table says of the first class of an exception that it has, in resolution order."""
    return next((table[cls] for cls in type(error).__mro__ if cls in table), default)


def reason_of(error: BaseException) -> Reason:
    """What an exception means, by `REASONS`."""
    return nearest(REASONS, error, Reason.PROTOCOL)


def detail_of(error: BaseException) -> str:
    """One line about an exception. Texts of libraries stay out of it: they repeat the URL."""
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
