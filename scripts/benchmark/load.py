"""Load to measure the receiver: raw requests on many connections, without an HTTP client."""

from __future__ import annotations

import asyncio
import sys
from typing import Any, Final

from scripts.benchmark.request import BODY, headers

CONNECTIONS: Final = 64
_ANSWER: Final = b"\r\n\r\n"


def _raw() -> bytes:
    fields = {"host": "127.0.0.1", "content-length": str(len(BODY))} | headers("c-1")
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return b"POST /hooks/ai HTTP/1.1\r\n" + head.encode() + b"\r\n" + BODY


class _Connection(asyncio.Protocol):
    def __init__(self, request: bytes, left: list[int], done: asyncio.Event) -> None:
        self._request, self._left, self._done = request, left, done

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._send()

    def _send(self) -> None:
        if self._left[0]:
            self._left[0] -= 1
            self._transport.write(self._request)
        else:
            self._done.set()

    def data_received(self, data: bytes) -> None:
        if data.endswith(_ANSWER):
            self._send()


async def _run(port: int, count: int) -> None:
    loop, done, left, request = asyncio.get_running_loop(), asyncio.Event(), [count], _raw()
    for _ in range(CONNECTIONS):
        made = lambda: _Connection(request, left, done)  # noqa: E731 - asyncio wants a factory
        await loop.create_connection(made, "127.0.0.1", port)
    await done.wait()


if __name__ == "__main__":
    import uvloop

    uvloop.run(_run(int(sys.argv[1]), int(sys.argv[2])))
