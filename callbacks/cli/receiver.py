"""A local receiver that checks signatures and answers as configured.

One thread serves all connections, so that idle and slow ones cost next to nothing. It is for
demonstrations, tests and benchmarks on this machine, not for the internet.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import cached_property, partial
from http import HTTPStatus
from types import TracebackType
from typing import Any, Final, Self

MAX_HEAD_BYTES: Final = 65_536
MAX_BODY_BYTES: Final = 16_777_216

_BACKLOG: Final = 1_024
_HEAD_END: Final = b"\r\n\r\n"
_PHRASES: Final = {each.value: each.phrase for each in HTTPStatus}

# (secrets, headers, body, unix time); raises if the signature is not valid.
Verify = Callable[[Sequence[str], Mapping[str, str], bytes, float], None]


@dataclass(frozen=True, slots=True)
class Hit:
    """One received request; header names are in lower case.

    When it was complete: `at_s` on the monotonic clock, `time_s` as unix time. `signature_ok` is
    None if signatures are not checked.
    """

    at_s: float
    time_s: float
    method: str
    path: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    signature_ok: bool | None = None

    @property
    def id(self) -> str:
        """Its `webhook-id`; empty if it has none."""
        return self.headers.get("webhook-id", "")

    @property
    def attempt(self) -> int:
        """Its `webhook-attempt`; 0 if it has none."""
        return int(self.headers.get("webhook-attempt", 0))


@dataclass(frozen=True)
class Response:
    """What to answer, after `delay_s`, or once the future `until` is done.

    `drop` closes the connection instead of answering.
    """

    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    delay_s: float = 0.0
    close: bool = False
    drop: bool = False
    until: Future[object] | None = None

    @cached_property
    def encoded(self) -> bytes:
        """The response as bytes."""
        lines = [f"HTTP/1.1 {self.status} {_PHRASES.get(self.status, '')}"]
        lines += [f"{name}: {value}" for name, value in self.headers]
        if self.close:
            lines.append("connection: close")
        lines.append(f"content-length: {len(self.body)}")
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + self.body


Behaviour = Callable[[Hit], Response]


class Receiver:
    """A context manager that listens, and records all requests.

    `behaviour` answers each hit in the receiver's only thread, so it must not block: delays
    belong in the Response. `verify` (with `secrets`) sets `signature_ok`. `keep` is the maximum
    number of hits kept; the oldest are dropped first. `new_loop` replaces asyncio's event loop.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        secrets: Sequence[str] = (),
        behaviour: Behaviour | None = None,
        *,
        verify: Verify | None = None,
        tls: ssl.SSLContext | None = None,
        keep: int | None = None,
        new_loop: Callable[[], asyncio.AbstractEventLoop] | None = None,
    ) -> None:
        self.host = host
        self.port = port
        self.hits: list[Hit] = []
        self._secrets = tuple(secrets)
        self._behaviour = behaviour or status(200)
        self._verify = verify
        self._tls = tls
        self._keep = keep
        self._new_loop = new_loop
        self._came = threading.Condition()
        self._connections: set[_Connection] = set()
        self._listening: Future[tuple[int, Callable[[], object]]] = Future()
        self._thread = threading.Thread(target=self._serve, name="receiver", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self.port, self._stop = self._listening.result()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop()
        self._thread.join()

    def url(self, path: str = "/") -> str:
        """Its URL; with port 0, known only once it listens."""
        scheme = "https" if self._tls else "http"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{scheme}://{host}:{self.port}{path}"

    def wait_for_hits(self, count: int, timeout_s: float) -> bool:
        """Wait for `count` hits; False if they did not come in time."""
        with self._came:
            return self._came.wait_for(lambda: len(self.hits) >= count, timeout_s)

    def _serve(self) -> None:
        try:
            with asyncio.Runner(loop_factory=self._new_loop) as runner:
                runner.run(self._listen())
        except (OSError, OverflowError) as error:  # a port in use, or an invalid one
            if self._listening.done():
                raise
            self._listening.set_exception(error)

    async def _listen(self) -> None:
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        server = await loop.create_server(
            lambda: _Connection(self._taken, self._connections, loop),
            self.host,
            self.port,
            ssl=self._tls,
            backlog=_BACKLOG,
        )
        port = server.sockets[0].getsockname()[1]
        self._listening.set_result((port, partial(loop.call_soon_threadsafe, ended.set)))
        await ended.wait()
        server.close()
        for connection in self._connections:
            connection.abort()  # without waiting for TLS to shut down
        while self._connections:  # noqa: ASYNC110 - the loop needs a turn or two to close them
            await asyncio.sleep(0)

    def _taken(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Response:
        now_s = time.time()
        is_signed = self._is_signed(headers, body, now_s)
        hit = Hit(time.monotonic(), now_s, method, path, headers, body, is_signed)
        with self._came:
            self.hits.append(hit)
            if self._keep is not None:
                del self.hits[: max(0, len(self.hits) - self._keep)]
            self._came.notify_all()
        return self._behaviour(hit)

    def _is_signed(self, headers: Mapping[str, str], body: bytes, now_s: float) -> bool | None:
        if self._verify is None:
            return None
        try:
            self._verify(self._secrets, headers, body, now_s)
        except Exception:  # noqa: BLE001 -- whatever it raises, the signature is not valid
            return False
        return True


# (method, target, headers in lower case, body) -> the answer.
_Take = Callable[[str, str, Mapping[str, str], bytes], Response]


class _Connection(asyncio.Protocol):
    """Handles one connection's requests in turn; they may come in parts, or several at once."""

    def __init__(self, take: _Take, all: set[_Connection], loop: asyncio.AbstractEventLoop) -> None:
        self._take, self._all, self._loop = take, all, loop
        self._buffer = b""
        self._head: tuple[str, str, dict[str, str]] | None = None
        self._length = 0
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
        while not self._answering and self._has_whole_request():
            method, path, headers = self._head or ("", "", {})
            body, self._buffer = self._buffer[: self._length], self._buffer[self._length :]
            self._head = None
            self._is_last = headers.get("connection", "").lower() == "close"
            self._answer(self._take(method, path, headers, body))

    def _has_whole_request(self) -> bool:
        if self._head is None and not self._read_head():
            return False
        return len(self._buffer) >= self._length

    def _read_head(self) -> bool:
        end = self._buffer.find(_HEAD_END)
        if end < 0:
            if len(self._buffer) > MAX_HEAD_BYTES:
                self.abort()
            return False
        self._head, self._buffer = _parsed(self._buffer[:end]), self._buffer[end + 4 :]
        length = self._head and _body_length(self._head[2])
        if length is None:
            self._buffer, self._is_last = b"", True
            self._send(Response(413 if self._head else 400, close=True))
            return False
        self._length = length
        return True

    def _answer(self, reply: Response) -> None:
        self._answering = bool(reply.until or reply.delay_s)
        if reply.until:
            reply.until.add_done_callback(partial(self._let_go, reply))
        elif reply.delay_s:
            self._loop.call_later(reply.delay_s, self._send_late, reply)
        else:
            self._send(reply)

    def _let_go(self, reply: Response, _until: Future[object]) -> None:
        with contextlib.suppress(RuntimeError):  # the receiver has stopped meanwhile
            self._loop.call_soon_threadsafe(self._send_late, reply)

    def _send_late(self, reply: Response) -> None:
        self._answering = False
        self._send(reply)
        self._go_on()

    def _send(self, reply: Response) -> None:
        if self._transport.is_closing():  # the client is gone
            return
        if not reply.drop:
            self._transport.write(reply.encoded)
        if reply.drop or reply.close or self._is_last:
            self._transport.close()


def status(code: int, *, retry_after: str | None = None) -> Behaviour:
    """Answer everything with one status."""
    headers = () if retry_after is None else (("retry-after", retry_after),)
    reply = Response(code, headers)
    return lambda _hit: reply


def slow(seconds: float, code: int = 200) -> Behaviour:
    """Answer everything after a while."""
    reply = Response(code, delay_s=seconds)
    return lambda _hit: reply


def drop() -> Behaviour:
    """Close the connection instead of answering."""
    reply = Response(drop=True)
    return lambda _hit: reply


def fail_first(times: int, code: int) -> Behaviour:
    """Answer the first requests of each `webhook-id` with a failure, the later ones with 200."""
    seen: dict[str, int] = {}

    def behave(hit: Hit) -> Response:
        seen[hit.id] = seen.get(hit.id, 0) + 1
        return Response(code if seen[hit.id] <= times else 200)

    return behave


def limited(per_s: float, *, clock: Callable[[], float] = time.monotonic) -> Behaviour:
    """Answer 429 with `Retry-After: 1` above a rate; allows bursts of one second's requests."""
    burst = max(1.0, per_s)
    room, last = burst, clock()

    def behave(_hit: Hit) -> Response:
        nonlocal room, last
        now = clock()
        room, last = min(burst, room + (now - last) * per_s), now
        if room < 1:
            return Response(429, (("retry-after", "1"),))
        room -= 1
        return Response(200)

    return behave


def by_path(behaviours: Mapping[str, Behaviour], default: Behaviour | None = None) -> Behaviour:
    """Answer by the path's first segment: `{"flaky": fail_first(1, 503)}` for `/flaky/7`."""
    otherwise = default or status(200)

    def behave(hit: Hit) -> Response:
        segment = hit.path.partition("?")[0].split("/")[1:2]
        return behaviours.get("".join(segment), otherwise)(hit)

    return behave


def _parsed(head: bytes) -> tuple[str, str, dict[str, str]] | None:
    """Method, target and headers; None if it is not an HTTP/1 request."""
    request_line, *lines = head.decode("latin-1").split("\r\n")
    parts = request_line.split(" ")
    if len(parts) != 3 or not parts[2].startswith("HTTP/1."):
        return None
    fields = [line.partition(":") for line in lines]
    if not all(colon for _, colon, _ in fields):
        return None
    return parts[0], parts[1], {name.lower(): value.strip() for name, _, value in fields}


def _body_length(headers: Mapping[str, str]) -> int | None:
    """The body's length; None if it is too long or unknown."""
    text = headers.get("content-length", "0")
    if "transfer-encoding" in headers or not (text.isascii() and text.isdigit()):
        return None
    return int(text) if len(text) < 10 and int(text) <= MAX_BODY_BYTES else None
