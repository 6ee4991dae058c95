"""An HTTP receiver that costs so little that it does not count: one process, no framework.

It answers every request with 200, at once or after a delay, and notes when each came. It is
steered by lines on its standard input (`reset <delay in s>`, `stats`, `times`), each answered
by one line of JSON. `Receiver` starts one and speaks to it.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
import subprocess
import sys
import time
from array import array
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final

_LENGTH: Final = re.compile(rb"[cC]ontent-[lL]ength: *(\d+)")
_OK: Final = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"


class _Noted:
    """What came since the last reset."""

    def __init__(self) -> None:
        self.delay_s = 0.0
        self.times = array("d")
        self.first = b""

    def order(self, line: str) -> Any:
        word, _, value = line.partition(" ")
        if word == "reset":
            self.delay_s, self.times, self.first = float(value), array("d"), b""
            return True
        if word == "times":
            return self.times.tolist()
        return {
            "count": len(self.times),
            "seconds": self.times[-1] - self.times[0] if self.times else 0.0,
            "first": base64.b64encode(self.first).decode(),
            "cpu": time.process_time(),
        }


class _Http(asyncio.Protocol):
    """One connection; requests may come in parts, or several at once."""

    def __init__(self, noted: _Noted, loop: asyncio.AbstractEventLoop) -> None:
        self._noted, self._loop = noted, loop
        self._buffer = b""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer + data if self._buffer else data
        while buffer and (size := self._size(buffer)) is not None and len(buffer) >= size:
            self._take(buffer[:size])
            buffer = buffer[size:]
        self._buffer = buffer

    @staticmethod
    def _size(buffer: bytes) -> int | None:
        head = buffer.find(b"\r\n\r\n")
        if head < 0:
            return None
        length = _LENGTH.search(buffer, 0, head)
        return head + 4 + (int(length[1]) if length else 0)

    def _take(self, request: bytes) -> None:
        noted = self._noted
        noted.times.append(time.monotonic())
        if not noted.first:
            noted.first = request
        if noted.delay_s:
            self._loop.call_later(noted.delay_s, self._answer)
        else:
            self._transport.write(_OK)

    def _answer(self) -> None:
        if not self._transport.is_closing():
            self._transport.write(_OK)


class _Orders(asyncio.Protocol):
    """Standard input; its end is the end."""

    def __init__(self, noted: _Noted, ended: Callable[[], object]) -> None:
        self._noted, self._ended = noted, ended

    def data_received(self, data: bytes) -> None:
        for line in data.decode().splitlines():
            print(json.dumps(self._noted.order(line)), flush=True)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's shape
        self._ended()


async def _serve() -> None:
    loop, noted, ended = asyncio.get_running_loop(), _Noted(), asyncio.Event()
    server = await loop.create_server(lambda: _Http(noted, loop), "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.connect_read_pipe(lambda: _Orders(noted, ended.set), sys.stdin)
    await ended.wait()


class Receiver:
    """A receiver process. Times are of the clock that all processes here share (monotonic)."""

    def __enter__(self) -> Receiver:
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # a Ctrl-C is for us; its end is that of its standard input
        )
        self.port = int(self._read())
        self.url = f"http://127.0.0.1:{self.port}/hooks/ai"
        return self

    def _read(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def _order(self, line: str) -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        return json.loads(self._read())

    def reset(self, *, delay_s: float = 0) -> None:
        """Forget all, and answer after `delay_s` from now on."""
        self._order(f"reset {delay_s}")

    def stats(self) -> dict[str, Any]:
        """`count`, `seconds` from the first to the last, `cpu` seconds since its start."""
        return dict(self._order("stats"))

    def first(self) -> bytes:
        """The first request as it came."""
        return base64.b64decode(self.stats()["first"])

    def times(self) -> list[float]:
        """When each request came."""
        return list(self._order("times"))

    def await_count(self, count: int, *, within_s: float) -> None:
        """Wait until so many came."""
        give_up = time.monotonic() + within_s
        while (came := self.stats()["count"]) < count:
            if time.monotonic() > give_up:
                raise TimeoutError(f"{came} of {count} requests came within {within_s:g} s")
            time.sleep(0.02)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(10)


if __name__ == "__main__":
    import uvloop

    uvloop.run(_serve())
