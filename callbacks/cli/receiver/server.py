"""A local receiver that checks signatures and answers as configured.

One thread serves all connections, so that idle and slow ones cost next to nothing. It is for
demonstrations, tests and benchmarks on this machine, not for the internet.
"""

from __future__ import annotations

import asyncio
import ssl
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from types import TracebackType
from typing import Final, Self

from callbacks.cli.receiver.behaviours import status
from callbacks.cli.receiver.connection import Connection
from callbacks.cli.receiver.exchange import Behaviour, Hit, Response

_BACKLOG: Final = 1_024

# (secrets, headers, body, unix time); raises if the signature is not valid.
Verify = Callable[[Sequence[str], Mapping[str, str], bytes, float], None]


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
        self._connections: set[Connection] = set()
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
            lambda: Connection(self._taken, self._connections, loop),
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
        if self._keep != 0:
            self._remember(hit)
        return self._behaviour(hit)

    def _remember(self, hit: Hit) -> None:
        with self._came:
            self.hits.append(hit)
            if self._keep is not None:
                del self.hits[: -self._keep]
            self._came.notify_all()

    def _is_signed(self, headers: Mapping[str, str], body: bytes, now_s: float) -> bool | None:
        if self._verify is None:
            return None
        try:
            self._verify(self._secrets, headers, body, now_s)
        except Exception:  # noqa: BLE001 -- whatever it raises, the signature is not valid
            return False
        return True
