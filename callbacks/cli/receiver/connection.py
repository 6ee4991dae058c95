"""One connection: reads its requests, and writes the answers."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import struct
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from functools import cached_property, lru_cache, partial
from typing import Any, Final, NamedTuple

from callbacks.cli.receiver.exchange import Response

MAX_HEAD_BYTES: Final = 65_536
MAX_BODY_BYTES: Final = 16_777_216

_HEAD_END: Final = b"\r\n\r\n"
# One pass over a head finds the fields that say where the request ends and whether its connection
# does, and lines that are no field, as an empty name.
_FIELDS: Final = re.compile(
    rb"\r\n(?:(content-length|transfer-encoding|connection):([^\r]*)|[^:\r]*+(?!:))",
    re.IGNORECASE,
)

# (method, target, headers in lower case, body) -> the answer.
_Take = Callable[[str, str, Mapping[str, str], bytes], Response]


class _Headers(Mapping[str, str]):
    """The headers of one request by their names in lower case."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw

    @cached_property
    def _fields(self) -> dict[str, str]:
        fields = (line.partition(":") for line in self._raw.decode("latin-1").split("\r\n")[1:])
        return {name.lower(): value.strip() for name, _, value in fields}

    def __getitem__(self, name: str) -> str:
        return self._fields[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)


class _Head(NamedTuple):
    """What a request's head says; `length` is that of its body."""

    method: str
    path: str
    length: int
    is_last: bool


class Connection(asyncio.Protocol):
    """Handles one connection's requests in turn; they may come in parts, or several at once."""

    def __init__(self, take: _Take, all: set[Connection], loop: asyncio.AbstractEventLoop) -> None:
        self._take, self._all, self._loop = take, all, loop
        self._buffer = b""
        self._head: _Head | None = None
        self._raw_head = b""
        self._answering = False

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._all.add(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self._all.discard(self)

    def abort(self) -> None:
        """Close it at once."""
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._go_on()

    def _go_on(self) -> None:
        while not self._answering and (head := self._head or self._read_head()):
            if len(self._buffer) < head.length:
                self._head = head
                return
            body, self._buffer = self._buffer[: head.length], self._buffer[head.length :]
            self._head, self._is_last = None, head.is_last
            self._answer(self._take(head.method, head.path, _Headers(self._raw_head), body))

    def _read_head(self) -> _Head | None:
        """The next head, if all of it has come and it is one; anything else is answered here."""
        end = self._buffer.find(_HEAD_END)
        if end < 0:
            if len(self._buffer) > MAX_HEAD_BYTES:
                self.abort()
            return None
        self._raw_head, self._buffer = self._buffer[:end], self._buffer[end + 4 :]
        request_line, _, _ = self._raw_head.partition(b"\r\n")
        head = _parsed(request_line, tuple(_FIELDS.findall(self._raw_head)))
        if isinstance(head, _Head):
            return head
        self._buffer, self._is_last = b"", True
        self._send(Response(head, close=True))
        return None

    def _answer(self, reply: Response) -> None:
        self._answering = bool(reply.until or reply.delay_s or reply.drip_s)
        if reply.until:
            reply.until.add_done_callback(partial(self._let_go, reply))
        elif reply.delay_s:
            self._loop.call_later(reply.delay_s, self._send_late, reply)
        else:
            self._send(reply)

    def _let_go(self, reply: Response, until: Future[Any]) -> None:
        """Runs in the thread that ended the future."""
        ended_well = not until.cancelled() and until.exception() is None
        result = until.result() if ended_well else None
        final = result if isinstance(result, Response) else reply
        with contextlib.suppress(RuntimeError):  # the receiver has stopped meanwhile
            self._loop.call_soon_threadsafe(self._send_after, reply.delay_s, final)

    def _send_after(self, delay_s: float, reply: Response) -> None:
        if delay_s:
            self._loop.call_later(delay_s, self._send_late, reply)
        else:
            self._send_late(reply)

    def _send_late(self, reply: Response) -> None:
        self._answering = bool(reply.drip_s)
        self._send(reply)
        self._go_on()

    def _send(self, reply: Response) -> None:
        if self._transport.is_closing():  # the client is gone
            return
        if reply.reset:
            self._reset()
        elif reply.drop:
            self._close()
        elif reply.drip_s:
            self._drip(reply)
        else:
            self._transport.write(reply.encoded)
            self._end_or_keep(reply)

    def _end_or_keep(self, reply: Response) -> None:
        if reply.close or self._is_last:
            self._close()

    def _close(self) -> None:
        """Close it once everything is written; what else has come is no request any more."""
        self._buffer = b""
        self._transport.close()

    def _reset(self) -> None:
        """Close it with a TCP reset."""
        linger = struct.pack("ii", 1, 0)
        sock = self._transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self._buffer = b""
        self.abort()

    def _drip(self, reply: Response, sent: int = 0) -> None:
        if self._transport.is_closing():
            return
        self._transport.write(reply.encoded[sent : sent + 1])
        if sent + 1 < len(reply.encoded):
            self._loop.call_later(reply.drip_s, self._drip, reply, sent + 1)
            return
        self._answering = False
        self._end_or_keep(reply)
        self._go_on()


@lru_cache(maxsize=256)  # requests of one sender mostly differ in other fields
def _parsed(request_line: bytes, fields: tuple[tuple[bytes, bytes], ...]) -> _Head | int:
    """What a head says, by what `_FIELDS` finds in it; or the status with which it is refused."""
    parts = request_line.decode("latin-1").split(" ")
    framing = {name.lower(): value.strip() for name, value in fields}
    if len(parts) != 3 or not parts[2].startswith("HTTP/1.") or b"" in framing:
        return 400
    length = _body_length(framing)
    if length is None:
        return 413
    return _Head(parts[0], parts[1], length, framing.get(b"connection", b"").lower() == b"close")


def _body_length(framing: Mapping[bytes, bytes]) -> int | None:
    """None where it is too long, or cannot be told."""
    text = framing.get(b"content-length", b"0")
    if b"transfer-encoding" in framing or not text.isdigit():
        return None
    return int(text) if len(text) < 10 and int(text) <= MAX_BODY_BYTES else None
