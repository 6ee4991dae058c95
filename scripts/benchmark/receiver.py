"""The receiver in its own process, so fast that it does not affect the results.

It answers every request with 200, at once or after a delay, and records when each came. It is
controlled by lines on its standard input (`reset <delay in s>`, `stats`, `times`), each answered
by one line of JSON. `ReceiverProcess` starts one and talks to it.
"""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import time
from array import array
from types import TracebackType
from typing import Any

from callbacks.cli.receiver import Hit, Receiver, Response


class Noted:
    """What came since the last reset."""

    def __init__(self) -> None:
        self._reset(0)

    def _reset(self, delay_s: float) -> None:
        self.reply = Response(delay_s=delay_s)
        self.times = array("d")
        self.first: Hit | None = None

    def answer(self, hit: Hit) -> Response:
        """Record when a request came; the receiver's behaviour."""
        self.times.append(hit.at_s)
        self.first = self.first or hit
        return self.reply

    def order(self, line: str) -> Any:
        """Do what a line of standard input says; what is answered."""
        word, _, value = line.strip().partition(" ")
        if word == "reset":
            self._reset(float(value))
            return True
        if word == "times":
            return self.times.tolist()
        return {
            "count": len(self.times),
            "seconds": self.times[-1] - self.times[0] if self.times else 0.0,
            "headers": dict(self.first.headers) if self.first else {},
            "body": base64.b64encode(self.first.body).decode() if self.first else "",
            "cpu": time.process_time(),
        }


class ReceiverProcess:
    """A receiver process. Times are on the monotonic clock, which all processes here share."""

    def __enter__(self) -> ReceiverProcess:
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # not ended by Ctrl-C, but by the end of its standard input
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
        """Forget all requests, and answer after `delay_s` from now on."""
        self._order(f"reset {delay_s}")

    def stats(self) -> dict[str, Any]:
        """`count`, `seconds` from the first request to the last, `cpu` seconds since the start."""
        return dict(self._order("stats"))

    def first(self) -> tuple[dict[str, str], bytes]:
        """Headers and body of the first request."""
        stats = self.stats()
        return stats["headers"], base64.b64decode(stats["body"])

    def times(self) -> list[float]:
        """When each request came."""
        return list(self._order("times"))

    def await_count(self, count: int, *, within_s: float) -> None:
        """Wait until `count` requests have come."""
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


def _serve() -> None:
    import uvloop

    noted = Noted()
    with Receiver(behaviour=noted.answer, keep=0, new_loop=uvloop.new_event_loop) as receiver:
        print(receiver.port, flush=True)
        for line in sys.stdin:
            print(json.dumps(noted.order(line)), flush=True)


if __name__ == "__main__":
    _serve()
