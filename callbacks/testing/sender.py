"""Sends to this machine alone: what is for another one goes to the test's receiver, or nowhere."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from functools import cache
from ipaddress import ip_address
from typing import Final

from callbacks.delivery.adapter import GuardedAdapter, default_tls_context
from callbacks.delivery.callback import Sender
from callbacks.delivery.guard import BlockedAddress, Guard
from callbacks.delivery.transport import Transport
from callbacks.model import Answer, Reason
from callbacks.request.urls import Url, read_url
from callbacks.settings import Settings

_PUBLIC: Final = Guard()
_ELSEWHERE: Final = (
    "callbacks.testing sends to this machine only; with the fixture callbacks_receiver, requests to"
    " other hosts go to that receiver"
)

#: Takes the id and the URL of a callback; the receiver's URL, or None if there is no receiver.
Route = Callable[[str, str], str | None]


def transport(settings: Settings) -> Transport:
    """Make a transport like that of a worker, to be closed when its requests are done."""
    adapter = GuardedAdapter(
        allowed_networks=settings.allowed_networks,
        connect_timeout=settings.connect_timeout,
        read_timeout=settings.read_timeout,
        deadline=settings.deadline,
        tls_context=_tls_context(),
    )
    return Transport(adapter)


@cache
def _tls_context() -> ssl.SSLContext:
    """One for all tests: reading the certificates takes longer than a test."""
    return default_tls_context()


class LocalSender:
    """A `Sender` whose requests never leave this machine; `note` gets each with its answer."""

    def __init__(
        self,
        transport: Sender,
        route: Route,
        note: Callable[[str, Mapping[str, str], bytes, Answer], None],
    ) -> None:
        self._transport, self._route, self._note = transport, route, note

    def post(
        self,
        url: str,
        headers: Mapping[str, str],
        body: bytes,
        *,
        spent_s: float = 0,
        proven: bool = False,
    ) -> Answer:
        """Send one request, as `transport.Transport` does."""
        target = url
        if _is_elsewhere(read_url(url)):
            target = self._route(headers["webhook-id"], url) or ""
        if target:
            answer = self._transport.post(target, headers, body, spent_s=spent_s, proven=proven)
        else:
            answer = Answer(None, Reason.BLOCKED_ADDRESS, _ELSEWHERE)
        self._note(url, headers, body, answer)
        return answer


def _is_elsewhere(url: Url) -> bool:
    """Whether it leads to a public address or to a name, except `localhost`.

    The guard decides about all others, as it does in a worker.
    """
    try:
        address = ip_address(url.host.strip("[]"))
    except ValueError:
        return url.host != "localhost"
    try:
        _PUBLIC.check(address)
    except BlockedAddress:
        return False
    return True
