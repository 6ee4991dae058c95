"""One test's callbacks on the embedded server, and the workers that deliver them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from types import TracebackType
from typing import Self

import dramatiq
from dramatiq import Actor

from callbacks import runtime as runtimes
from callbacks.batcher.client import connect
from callbacks.batcher.shards import Shards
from callbacks.model import Answer
from callbacks.runtime import Runtime, runtime
from callbacks.settings import Settings, load_settings
from callbacks.testing.clock import VERBS, Clock
from callbacks.testing.current import NAMES, current, in_use
from callbacks.testing.environ import Environ
from callbacks.testing.requests import Attempted
from callbacks.testing.sender import LocalSender, Route, transport
from callbacks.testing.server import EmbeddedServer
from callbacks.testing.workers import Wakeups, Workers


class CallbacksApp:
    """What the application under test enqueues goes to an embedded server, empty at the start.

    A context manager, one at a time. While it is entered, the environment has none of the
    developer's own settings, but a secret and the permission to reach this machine. `attempts` are
    all tries to send something. Nothing is sent to another machine.
    """

    def __init__(self, server: EmbeddedServer, **settings: object) -> None:
        self._server, self._given = server, settings
        self._stack = ExitStack()
        self._environ = Environ()
        self.secret = ""
        self.clock: Clock
        self.attempts: list[Attempted] = []
        self.route: Route = lambda _id, _url: None

    def __enter__(self) -> Self:
        self._server.client.flushall()
        self.clock = Clock(self._server.client)
        self._wakeups = Wakeups(self.clock)
        with ExitStack() as stack:
            self.secret = stack.enter_context(
                in_use(self, self._build, self._environ, self._server.url, self._given)
            )
            self._clients = stack.enter_context(ExitStack())
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def _build(self) -> Runtime:
        settings = load_settings()
        client = connect(settings)
        self._clients.callback(client.connection_pool.disconnect)
        shards = Shards(client, settings, verbs=VERBS)
        return Runtime(settings, client, shards, self._wakeups, NAMES)

    @property
    def settings(self) -> Settings:
        """The settings of this test. Raises `SettingsError` if one is wrong."""
        return runtime().settings

    def configure(self, **settings: object) -> None:
        """Change settings for this test, by the names of their fields: `max_retries=0`.

        They come before those of the application itself, which None leaves in place. What is
        enqueued stays. Raises `SettingsError` for an unknown name or a wrong value.
        """
        self._environ.configure(**settings)
        load_settings()
        runtimes.renew()

    def deliver_all(self, *, within: float | None = None) -> list[Attempted]:
        """Do the workers' duties in this thread; see `callbacks.testing.deliver_all`."""
        before = len(self.attempts)
        parts = runtime()
        tell = self._teller(parts.settings.on_dead)
        with closing(transport(parts.settings)) as sending:
            sender = LocalSender(sending, self.route, self._note)
            Workers(parts.batcher, self._wakeups, sender, self.clock, tell).run(within)
        return self.attempts[before:]

    def _note(self, url: str, headers: Mapping[str, str], body: bytes, answer: Answer) -> None:
        attempted = Attempted(
            id=headers["webhook-id"],
            url=url,
            headers=dict(headers),
            body=body,
            attempt=int(headers["webhook-attempt"]),
            at=self.clock.time(),
            status=answer.status,
            reason=answer.fault,
            detail=answer.detail,
        )
        self.attempts.append(attempted)

    @staticmethod
    def _teller(name: str) -> Callable[[str, str], object] | None:
        """Call the application's actor for deaths here, whichever broker it has in this test."""
        if not name:
            return None
        brokers = (runtimes.broker, dramatiq.broker.global_broker)
        actors: dict[str, Actor[..., object]] = {}
        for broker in filter(None, brokers):
            actors = broker.actors | actors
        if name not in actors:
            raise LookupError(f"CALLBACKS_ON_DEAD: no actor {name!r} is declared in this test")
        return actors[name]


def deliver_all(*, within: float | None = None) -> list[Attempted]:
    """Do the workers' duties in this thread until nothing is left; returns the attempts made.

    The clock moves to whatever comes next, so retries, delays and holds take no time; what is
    paused stays. `within`: only what comes within so many seconds, which have passed afterwards.
    For the `CallbacksApp` of this test (the fixture `callbacks_app` or `callbacks_receiver`);
    raises `RuntimeError` without one.
    """
    return current(CallbacksApp).deliver_all(within=within)


async def adeliver_all(*, within: float | None = None) -> list[Attempted]:
    """Do the same in another thread, so that this event loop can answer meanwhile."""
    return await asyncio.to_thread(current(CallbacksApp).deliver_all, within=within)
