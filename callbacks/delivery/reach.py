"""Whether a URL may be reached, without connecting: every address of its host is checked."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Final

from callbacks.delivery.deadline import Deadline
from callbacks.delivery.dns import Lookups, system_addresses
from callbacks.delivery.guard import BlockedAddress, Guard
from callbacks.model import InvalidCallback
from callbacks.request.urls import read_url

if TYPE_CHECKING:
    from callbacks.settings import Settings

#: Those of the system.
LOOKUPS: Final = Lookups(system_addresses)


def check_addresses(callback_url: str, settings: Settings, *, lookups: Lookups = LOOKUPS) -> None:
    """Look up a URL's host, and check all its addresses as they are before each connection.

    Takes as long as the name lookup, at most the deadline of an attempt. Raises InvalidCallback
    for the field `callback_url`.
    """
    url = read_url(callback_url)
    host = url.host.strip("[]")
    try:
        found = lookups.addresses(host, url.port, Deadline(settings.deadline))
        Guard(settings.allowed_networks).check_all(found)
    except BlockedAddress as error:
        raise _invalid(
            f"may not be reached: {error}; expected public addresses only, or those of"
            " CALLBACKS_ALLOWED_NETWORKS"
        ) from None
    except TimeoutError:
        within = f"did not resolve within {settings.deadline:g} s"
        raise _invalid(f"has a host whose name {within}; expected one in the DNS") from None
    except (socket.gaierror, UnicodeError) as error:
        why = getattr(error, "strerror", None) or "the name cannot be encoded"
        problem = f"has a host that does not resolve ({why}); expected one in the DNS"
        raise _invalid(problem) from None


def _invalid(problem: str) -> InvalidCallback:
    return InvalidCallback("callback_url", problem)
