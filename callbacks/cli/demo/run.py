"""Runs the demo: server, receivers, workers, scheduler, and the check of the numbers at its end.

It has its own server in a temporary folder, so it cannot touch other data. However it ends, its
processes are ended and its folder is removed.
"""

from __future__ import annotations

import base64
import os
import secrets
import socket
import time
from collections.abc import Mapping
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import redis
from rich.console import Console

from callbacks.batcher.audit import audit
from callbacks.batcher.client import connect
from callbacks.batcher.inspector import Inspector, Overview, overview
from callbacks.batcher.shards import Shards
from callbacks.cli.demo.screen import progress, show_logs, show_settings, show_summary
from callbacks.cli.demo.summary import Delivery, Plan, Summary, environment, plan, reckon
from callbacks.cli.processes import (
    SCHEDULER,
    Processes,
    RunError,
    await_server,
    ended_by_signals,
    server,
    server_binary,
    short_temporary_folder,
    undisturbed,
    without_settings,
    worker,
)
from callbacks.cli.receiver import Behaviour, Hit, Receiver, Response, fail_first, slow
from callbacks.delivery.callback import AICallback
from callbacks.model import Item
from callbacks.request.freeze import pack
from callbacks.request.signature import verify
from callbacks.settings import Settings, load_settings
from callbacks.units import ms

#: Time for the start, retries and a slow machine, besides that of all attempts at their pace.
_PATIENCE_S: Final = 60.0
_POLL_S: Final = 0.1
_ANSWER_S: Final = 0.02
_CHUNK: Final = 500
_PACKAGE: Final = Path(__file__).resolve().parents[2]


def run_demo(count: int, screen: Console) -> Summary:
    """Send `count` callbacks through the whole system; prints progress and summary on `screen`.

    Raises `RunError` if it cannot run, or does not end in time.
    """
    binary = server_binary()
    with ended_by_signals(), short_temporary_folder("callbacks-demo-") as folder:
        processes = Processes(folder)
        try:
            summary = _Demo(plan(count), folder, processes, screen).run(binary)
        except (RunError, redis.RedisError) as error:
            show_logs(processes, screen)
            if isinstance(error, RunError):
                raise
            raise RunError(f"its server failed: {error}") from error
        finally:
            with undisturbed():
                processes.stop()
        if summary.wrong:
            show_logs(processes, screen)
    return summary


class _Demo:
    """One run, from the empty server to the summary."""

    def __init__(self, plan: Plan, folder: Path, processes: Processes, screen: Console) -> None:
        self.plan = plan
        self.processes = processes
        self.screen = screen
        self.deliveries: list[Delivery] = []
        # A socket in a folder that only this user can enter needs no free port, and is private.
        self.socket = folder / "redis.sock"
        key = base64.b64encode(secrets.token_bytes(32)).decode()
        self.environ = environment(plan, f"unix://{self.socket}", f"whsec_{key}")
        self.settings: Settings = load_settings(self.environ)

    def run(self, binary: str) -> Summary:
        """Run the demo."""
        show_settings(self.environ, self.screen)
        self._start_server(binary)
        with ExitStack() as stack:
            urls = self._receive(stack)
            client = stack.enter_context(closing(connect(self.settings)))
            await_server(client, self.processes)
            self._start_ours()
            began_s = time.monotonic()
            batcher = Shards(client, self.settings)
            self._hand_in(batcher, urls)
            books = self._await_end(batcher)
            summary = self._sum_up(batcher, books, time.monotonic() - began_s)
        show_summary(summary, self.screen)
        return summary

    # Processes

    def _start_server(self, binary: str) -> None:
        options = {"port": "0", "unixsocket": str(self.socket), "unixsocketperm": "700"}
        self.processes.start("server", server(binary, **options), os.environ)

    def _start_ours(self) -> None:
        environ = without_settings(os.environ) | self.environ
        paths = [str(_PACKAGE), environ.get("PYTHONPATH", "")]
        environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
        self.processes.start("workers", worker(processes=2, threads=16), environ)
        self.processes.start("scheduler", SCHEDULER, environ)

    # Callbacks

    def _hand_in(self, batcher: Shards, urls: Mapping[str, str]) -> None:
        life_ms = ms(self.settings.max_age)
        now = datetime.now(UTC)
        for start in range(0, len(self.plan.callbacks), _CHUNK):
            items = []
            for id, name in self.plan.callbacks[start : start + _CHUNK]:
                data = {"task_id": id, "status": "succeeded"}
                callback = AICallback(
                    urls[name], data, event="demo.finished", id=id, settings=self.settings, now=now
                )
                request = callback.request
                items.append(Item(id, request.destination, pack(request), 0, life_ms))
            for result in batcher.enqueue_many(items):
                if isinstance(result, Exception):
                    raise result

    def _await_end(self, batcher: Shards) -> Overview:
        give_up = time.monotonic() + _PATIENCE_S + 2 * self.plan.attempts * self.plan.pace_s
        with progress(self.screen, len(self.plan.callbacks)) as show:
            while True:
                books = overview(batcher.scripts)
                show(books)
                if not books.queued and not books.processing:
                    return books
                self.processes.check()
                if time.monotonic() > give_up:
                    raise RunError(
                        f"it did not end in time: {books.queued} queued, "
                        f"{books.processing} processing"
                    )
                time.sleep(_POLL_S)

    def _sum_up(self, batcher: Shards, overview: Overview, seconds: float) -> Summary:
        inspector = Inspector(batcher.scripts)
        return reckon(
            self.plan,
            overview,
            frozenset(inspector.members("dead")),
            list(self.deliveries),
            list(audit(inspector)),
            seconds=seconds,
        )

    def _receive(self, stack: ExitStack) -> dict[str, str]:
        """Open every destination until the stack closes; returns their URLs by name."""
        behaviours = {name: slow(_ANSWER_S) for name in ("one", "two", "three")}
        behaviours["flaky"] = fail_first(1, 503)
        urls: dict[str, str] = {}
        for name, behaviour in behaviours.items():
            receiver = Receiver(
                secrets=self.settings.secret, behaviour=self._recorded(behaviour), verify=verify
            )
            urls[name] = stack.enter_context(receiver).url("/hooks/demo")
        # Its port is bound but nothing listens there, so every connection is refused.
        taken = stack.enter_context(socket.socket())
        taken.bind(("127.0.0.1", 0))
        urls["dead"] = f"http://127.0.0.1:{taken.getsockname()[1]}/hooks/demo"
        return urls

    def _recorded(self, behaviour: Behaviour) -> Behaviour:
        def behave(hit: Hit) -> Response:
            reply = behaviour(hit)
            ok, signed = 200 <= reply.status < 300, bool(hit.signature_ok)
            self.deliveries.append(Delivery(hit.id, hit.at_s, ok, signed))
            return reply

        return behave
