"""A local receiver: it takes callbacks, checks their signatures, and answers as it is told.

One thread serves all connections, idle and slow ones cost next to nothing. It is for
demonstrations and tests, on this machine; it is no server for the open internet.
"""

from __future__ import annotations

import asyncio
import ssl
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from types import TracebackType
from typing import Final, Self

MAX_HEAD_BYTES: Final = 65_536
MAX_BODY_BYTES: Final = 16_777_216

_BACKLOG: Final = 1_024
_HEAD_END: Final = b"\r\n\r\n"
_PHRASES: Final = {each.value: each.phrase for each in HTTPStatus}

# (secrets, headers, body, unix time): returns where the signature holds, raises where not.
Verify = Callable[[Sequence[str], Mapping[str, str], bytes, float], None]


@dataclass(frozen=True, slots=True)
class Hit:
    """One request that came in; header names are in lower case.

    `at_s` is on the monotonic clock, `time_s` the unix time, both when it was complete.
    `signature_ok` is None where signatures are not checked.
    """

    at_s: float
    time_s: float
    method: str
    path: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    signature_ok: bool | None = None


@dataclass(frozen=True, slots=True)
class Response:
    """What to answer, after `delay_s`; `drop` closes the connection instead of answering."""

    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    delay_s: float = 0.0
    close: bool = False
    drop: bool = False


Behaviour = Callable[[Hit], Response]


class Receiver:
    """Listens from entering the context to leaving it, and remembers what came.

    `behaviour` answers each hit, in the receiver's one thread, so it must not block: delays
    belong into the Response. `verify` (with `secrets`) decides what `signature_ok` becomes.
    `keep` bounds how many hits are remembered; the oldest go first.
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
    ) -> None:
        self.host = host
        self.port = port
        self.hits: list[Hit] = []
        self._secrets = tuple(secrets)
        self._behaviour = behaviour or status(200)
        self._verify = verify
        self._tls = tls
        self._keep = keep
        self._came = threading.Condition()
        self._connections: set[asyncio.Task[None]] = set()
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
        """Where it listens; `port` is known once it does."""
        scheme = "https" if self._tls else "http"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{scheme}://{host}:{self.port}{path}"

    def wait_for_hits(self, count: int, timeout_s: float) -> bool:
        """Wait until `count` hits are remembered; False where they were not in time."""
        with self._came:
            return self._came.wait_for(lambda: len(self.hits) >= count, timeout_s)

    def _serve(self) -> None:
        try:
            asyncio.run(self._listen())
        except (OSError, OverflowError) as error:  # a port in use, no port at all
            if self._listening.done():
                raise
            self._listening.set_exception(error)

    async def _listen(self) -> None:
        server = await asyncio.start_server(
            self._connected,
            self.host,
            self.port,
            ssl=self._tls,
            backlog=_BACKLOG,
            limit=MAX_HEAD_BYTES,
        )
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        port = server.sockets[0].getsockname()[1]
        self._listening.set_result((port, partial(loop.call_soon_threadsafe, ended.set)))
        await ended.wait()
        server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._connections.add(task)
            task.add_done_callback(self._connections.discard)
        try:
            while await self._answer_one(reader, writer):
                pass
        except (OSError, EOFError, asyncio.LimitOverrunError):
            pass  # whoever sent it went away, or sent too much
        except asyncio.CancelledError:
            writer.transport.abort()  # the receiver stops: nobody waits for a TLS goodbye
        finally:
            writer.close()

    async def _answer_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; False where the connection ends with it."""
        head = await reader.readuntil(_HEAD_END)
        request = _parsed(head)
        if request is None:
            writer.write(_encoded(Response(400, close=True)))
            return False
        method, path, headers = request
        length = _body_length(headers)
        if length is None:
            writer.write(_encoded(Response(413, close=True)))
            return False
        hit = self._noted(method, path, headers, await reader.readexactly(length))
        reply = self._behaviour(hit)
        if reply.delay_s:
            await asyncio.sleep(reply.delay_s)
        if reply.drop:
            return False
        writer.write(_encoded(reply))
        await writer.drain()
        return not reply.close and headers.get("connection", "").lower() != "close"

    def _noted(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Hit:
        now_s = time.time()
        is_signed = self._is_signed(headers, body, now_s)
        hit = Hit(time.monotonic(), now_s, method, path, headers, body, is_signed)
        with self._came:
            self.hits.append(hit)
            if self._keep is not None:
                del self.hits[: max(0, len(self.hits) - self._keep)]
            self._came.notify_all()
        return hit

    def _is_signed(self, headers: Mapping[str, str], body: bytes, now_s: float) -> bool | None:
        if self._verify is None:
            return None
        try:
            self._verify(self._secrets, headers, body, now_s)
        except Exception:  # noqa: BLE001 -- whatever it raises, the signature does not hold
            return False
        return True


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
    """Answer nothing: close the connection."""
    reply = Response(drop=True)
    return lambda _hit: reply


def fail_first(times: int, code: int) -> Behaviour:
    """Answer the first requests of each `webhook-id` with a failure, the later ones with 200."""
    seen: dict[str, int] = {}

    def behave(hit: Hit) -> Response:
        id = hit.headers.get("webhook-id", "")
        seen[id] = seen.get(id, 0) + 1
        return Response(code if seen[id] <= times else 200)

    return behave


def limited(per_s: float, *, clock: Callable[[], float] = time.monotonic) -> Behaviour:
    """Answer 429 with `Retry-After: 1` beyond a rate; up to a second's worth may come at once."""
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
    """Method, target and headers; None where it is no HTTP/1 request."""
    request_line, *lines = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    parts = request_line.split(" ")
    if len(parts) != 3 or not parts[2].startswith("HTTP/1."):
        return None
    fields = [line.partition(":") for line in lines]
    if not all(colon for _, colon, _ in fields):
        return None
    return parts[0], parts[1], {name.lower(): value.strip() for name, _, value in fields}


def _body_length(headers: Mapping[str, str]) -> int | None:
    """None where it is too long, or cannot be told."""
    text = headers.get("content-length", "0")
    if "transfer-encoding" in headers or not (text.isascii() and text.isdigit()):
        return None
    return int(text) if len(text) < 10 and int(text) <= MAX_BODY_BYTES else None


def _encoded(reply: Response) -> bytes:
    lines = [f"HTTP/1.1 {reply.status} {_PHRASES.get(reply.status, '')}"]
    lines += [f"{name}: {value}" for name, value in reply.headers]
    if reply.close:
        lines.append("connection: close")
    lines.append(f"content-length: {len(reply.body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + reply.body
