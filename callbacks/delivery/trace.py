"""An attempt that tells what happened on its way: addresses, the guard's verdict, the reply."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

from requests import PreparedRequest

from callbacks.delivery.adapter import GuardedAdapter
from callbacks.delivery.deadline import Limits
from callbacks.delivery.dialer import open_socket
from callbacks.delivery.dns import system_addresses
from callbacks.delivery.guard import Address, Guard
from callbacks.delivery.reply import Reply
from callbacks.delivery.transport import Transport
from callbacks.model import Answer
from callbacks.request.urls import read_url

if TYPE_CHECKING:
    from callbacks.settings import Settings


@dataclass
class Trace:
    """What happened to one request; how long its steps took is in the answer.

    `verdicts`: what the guard says of each address of the host. `looked_up`: the host is a name.
    `tried`: the addresses that were connected to, the last one with success if `connected`.
    `reply_headers`: lower-case names, and values in order.
    """

    url: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    verdicts: dict[str, str] = field(default_factory=dict)
    looked_up: bool = False
    tried: list[str] = field(default_factory=list)
    connected: str | None = None
    reply_headers: dict[str, list[str]] = field(default_factory=dict)


class TracingSender:
    """Sends one request over a connection of its own, as workers do; see `trace` afterwards."""

    def __init__(self, settings: Settings) -> None:
        self.trace = Trace()
        self._guard = Guard(settings.allowed_networks)
        self._adapter = _TracingAdapter(
            self.trace,
            allowed_networks=settings.allowed_networks,
            connect_timeout=settings.connect_timeout,
            read_timeout=settings.read_timeout,
            deadline=settings.deadline,
            resolve=self._resolve,
            connect=self._connect,
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
        """Send it; see `callback.Sender`."""
        self.trace.url, self.trace.headers = url, dict(headers)
        self._judge_literal(read_url(url).host.strip("[]"))
        transport = Transport(self._adapter)
        try:
            return transport.post(url, headers, body, spent_s=spent_s, proven=proven)
        finally:
            transport.close()

    def _judge_literal(self, host: str) -> None:
        """An address as host is not looked up."""
        try:
            ip_address(host)
        except ValueError:
            return
        self._judge([host])

    def _judge(self, addresses: Sequence[str]) -> None:
        self.trace.verdicts = {each: self._guard.verdict(each) for each in addresses}

    def _resolve(self, host: str, port: int) -> Sequence[str]:
        self.trace.looked_up = True
        addresses = system_addresses(host, port)
        self._judge(addresses)
        return addresses

    def _connect(self, address: Address, port: int, timeout_s: float) -> socket.socket:
        self.trace.tried.append(str(address))
        sock = open_socket(address, port, timeout_s)
        self.trace.connected = str(address)
        return sock


class _TracingAdapter(GuardedAdapter):
    def __init__(self, trace: Trace, **more: Any) -> None:
        super().__init__(**more)
        self._trace = trace

    def exchange(
        self,
        request: PreparedRequest,
        limits: Limits,
        *,
        proven: bool = False,
        with_body: bool = False,
    ) -> Reply:
        """Send a request and note the headers of its reply."""
        reply = super().exchange(request, limits, proven=proven, with_body=with_body)
        self._trace.reply_headers = reply.fields
        return reply
