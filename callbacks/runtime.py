"""What a process has one of: settings, client, batcher, broker, and how messages are sent."""

from __future__ import annotations

import json
import os
import random
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, Any, Final

import dramatiq
import redis
from dramatiq import Message
from dramatiq.errors import BrokerError
from dramatiq.middleware import default_middleware
from redis import Redis

from callbacks import log as logs
from callbacks.batcher.client import connect
from callbacks.batcher.errors import WrongForm
from callbacks.batcher.shards import Shards
from callbacks.batcher.store import Batcher
from callbacks.delivery.callback import shared_transport
from callbacks.delivery.dns import Lookups
from callbacks.delivery.reach import LOOKUPS
from callbacks.forks import renew_after_fork
from callbacks.log import log
from callbacks.model import SettingsError
from callbacks.monitor.checks import CheckStatus
from callbacks.monitor.redis_checks import eviction
from callbacks.monitor.reporter import Outlet, Reporter, log_figures
from callbacks.native import has_greenlets
from callbacks.telemetry import sdk
from callbacks.units import ms
from callbacks.version import __version__
from callbacks.worker.arrivals import Listener
from callbacks.worker.broker import CallbacksBroker
from callbacks.worker.consumer import QUEUE
from callbacks.worker.cores import pin
from callbacks.worker.duties import (
    Messages,
    do_all,
    notify_once,
    report_once,
    sample_once,
    shard_duties,
    shorten_once,
)
from callbacks.worker.liveness import Liveness
from callbacks.worker.middleware import Boot, Telemetry, Ticker
from callbacks.worker.places import Places
from callbacks.worker.rounds import Rounds, WorkerPlaces, log_tick
from callbacks.worker.scheduler import Periodic, SchedulerHeartbeat
from callbacks.worker.serving import (
    check_named,
    check_served,
    check_threads,
    find_actor,
    names_us,
    owns_stderr,
    refuse,
    sibling,
)
from callbacks.worker.watchdog import Watchdog

if TYPE_CHECKING:
    from callbacks.settings import Settings

#: Of the actor and of Dramatiq's Retries. The record holds the budget that counts.
ACTOR_RETRIES: Final = 2
#: So long a worker that starts waits for Redis to say what it is.
_LOOK_S: Final = 1.0
#: How often the ticker does its duties while every callback has ended.
_IDLE_S: Final = 30.0
#: While Redis is away at a worker's start, how long until it is asked again for its policy.
_ASK_AGAIN_S: Final = 5.0


class BrokerMessages:
    """Sends wake-ups as Dramatiq messages. One that cannot be sent is left to the ticker."""

    def __init__(self, settings: Settings, shard: int | None = None) -> None:
        """Make those of one of several shards; `shard` None: of the only one, or of all."""
        retries = len(settings.retry_delays)
        self._options = {"max_retries": retries} if retries > ACTOR_RETRIES else {}
        self._args = () if shard is None else (shard,)
        self._of: tuple[BrokerMessages, ...] = ()
        if shard is None and settings.shards > 1:
            self._of = tuple(BrokerMessages(settings, each) for each in range(settings.shards))

    def of(self, shard: int | None) -> BrokerMessages:
        """Return the messages of one of several shards; None: of the only one."""
        return self if shard is None else self._of[shard]

    def batch(self, claimed: Sequence[tuple[str, str, int]]) -> None:
        """Wake `send_single_callback` for each (id, token, delay_ms) after its delay."""
        actor = "send_single_callback"
        calls = [((id, token), delay_ms or None) for id, token, delay_ms in claimed]
        try:
            broker.enqueue_many(actor, calls, self._options)
        except BrokerError as error:
            log.debug("wake_lost", actor=actor, error=str(error))

    def trigger(self, delay_ms: int) -> None:
        """Wake `trigger_batch_send` after `delay_ms`."""
        self._send("trigger_batch_send", delay_ms)

    def check(self, delay_ms: int) -> None:
        """Wake `check_and_flush` after `delay_ms`."""
        self._send("check_and_flush", delay_ms)

    def _send(self, actor: str, delay_ms: int) -> None:
        message: Message[None] = Message(QUEUE, actor, self._args, {}, {})
        try:
            broker.enqueue(message, delay=delay_ms or None)
        except BrokerError as error:
            log.debug("wake_lost", actor=actor, error=str(error))


@dataclass(frozen=True, slots=True)
class Runtime:
    """The parts of one process. `lookups`: the names of URLs that are to be checked."""

    settings: Settings
    client: Redis
    batcher: Shards
    messages: Messages
    lookups: Lookups = LOOKUPS


class _Once:
    """Makes the parts at the first call, whoever else calls at the same time.

    Several pools would be several times the connections that were allowed.
    """

    def __init__(self, build: Callable[[], Runtime]) -> None:
        self._build = build
        self._made: Runtime | None = None
        renew_after_fork(self)

    def reset_after_fork(self) -> None:
        """In a forked child: whoever held the lock is not there."""
        self._lock = threading.Lock()

    @property
    def made(self) -> Runtime | None:
        return self._made

    def get(self) -> Runtime:
        return self._made or self._make()

    def _make(self) -> Runtime:
        with self._lock:
            if self._made is None:  # no other thread made them while this call waited
                self._made = self._build()
            return self._made

    def replace(self, settings: Settings) -> Runtime:
        """Make them of other settings; the old ones must not have been used."""
        with self._lock:
            self._made = _made_of(settings)
            return self._made

    def forget(self) -> Runtime | None:
        """Have the next call create them again; returns the old ones."""
        with self._lock:
            made, self._made = self._made, None
        return made

    def exchange(
        self, build: Callable[[], Runtime], made: Runtime | None = None
    ) -> tuple[Callable[[], Runtime], Runtime | None]:
        """Have the next call create them with `build`, unless given; returns the old ones."""
        with self._lock:
            before = self._build, self._made
            self._build, self._made = build, made
        return before


def _make() -> Runtime:
    from callbacks.settings import load_settings  # noqa: PLC0415 - keeps pydantic out of the import

    settings = load_settings()
    if not names_us():  # ours first set their logs up
        _warn_of_unknown(settings)
    return _made_of(settings)


def _warn_of_unknown(settings: Settings) -> None:
    for warning in settings.warnings:
        log.warning("unknown_setting", detail=warning)


def _made_of(settings: Settings) -> Runtime:
    client = connect(settings)
    return Runtime(settings, client, Shards(client, settings), BrokerMessages(settings))


_once: Final = _Once(_make)


def runtime() -> Runtime:
    """Build the parts from the environment at the first call; opens no connection.

    Raises `SettingsError` if a variable is wrong.
    """
    return _once.get()


def runtime_if_made() -> Runtime | None:
    """Return the parts, unless nobody has called `runtime` yet."""
    return _once.made


def configure(given: Mapping[str, object]) -> None:
    """Set settings in code, by the names of their fields; see `callbacks.configure`.

    Raises `SettingsError`, and changes nothing then. A worker or scheduler that loads its modules
    ends with that line instead.
    """
    try:
        _configure(given)
    except SettingsError as error:
        if names_us():
            refuse(str(error))
        raise


def _configure(given: Mapping[str, object]) -> None:
    from callbacks.settings import load_settings  # noqa: PLC0415 - as above
    from callbacks.settings.in_code import set_in_code, values_in_code  # noqa: PLC0415

    settings, made = load_settings(in_code={**values_in_code(), **given}), runtime_if_made()
    late = [name for name in given if made and _differ(settings, made.settings, name)]
    if late:
        raise SettingsError(
            f"callbacks.configure comes too late for {', '.join(late)}: this process uses its"
            " settings already; call it while the application starts, before it enqueues anything"
        )
    set_in_code(given)


def _differ(one: Settings, other: Settings, name: str) -> bool:
    return bool(getattr(one, name) != getattr(other, name))


def renew() -> None:
    """Build the parts anew at the next use, by the settings of then; for tests."""
    made = _once.forget()
    broker.forget_client()
    if made is not None:
        made.client.connection_pool.disconnect()


@contextmanager
def replaced(build: Callable[[], Runtime]) -> Iterator[None]:
    """Meanwhile let `build` make the parts of this process, for tests of applications.

    The parts from before are in use again afterwards.
    """
    before = _once.exchange(build)
    broker.forget_client()
    try:
        yield
    finally:
        _once.exchange(*before)
        broker.forget_client()


def with_one_connection(timeout_s: float) -> Runtime:
    """Rebuild the parts, before their first use, for a process that only looks and steers.

    They have one connection to Redis, which counts as unreachable after `timeout_s`.
    """
    return _once.replace(_less_patient(runtime().settings, timeout_s))


def _less_patient(settings: Settings, timeout_s: float) -> Settings:
    less = {"redis_max_connections": 1, "redis_timeout": min(timeout_s, settings.redis_timeout)}
    return settings.model_copy(update=less)


def _connect() -> tuple[Redis, str]:
    parts = runtime()
    return parts.client, parts.settings.message_namespace


def prepare_process() -> None:
    """Validate the settings of a process of ours and set its logging up, or end it."""
    try:
        settings = runtime().settings
        refuse_wrong_data(settings)
    except (SettingsError, WrongForm) as error:
        raise SystemExit(f"callbacks: {error}") from None
    logs.configure(settings.log_format, direct=owns_stderr())
    traces.start(sdk.signals())
    shared_transport(settings)  # reads all certificates, before the first callback waits for it
    _warn_of_unknown(settings)
    if settings.pin_cores:
        pin(*sibling())


def _set_logs_up() -> None:
    """Have a worker or a scheduler write its lines in our format, from the first one on."""
    from callbacks.settings import load_settings  # noqa: PLC0415 - as above

    # The application's modules come after this one, and may set more in code: no runtime yet.
    with suppress(SettingsError):  # told by `prepare_process`, or at the scheduler's first message
        logs.configure(load_settings().log_format, direct=owns_stderr())


def refuse_wrong_data(settings: Settings) -> None:
    """Raise `WrongForm` or `SettingsError`: Redis is not what its URL says, or has other shards.

    A Redis that is away, or does not answer soon, keeps no worker from starting: its first use
    checks both again.
    """
    with connect(_less_patient(settings, _LOOK_S)) as client:
        try:
            Shards(client, settings).agree()
        except WrongForm:
            raise
        except redis.RedisError as error:
            log.debug("redis_away", error=str(error))
        finally:
            client.connection_pool.disconnect()


class TickerElection:
    """This process's part in the election of the ticker, and what it learns from it."""

    def __init__(self) -> None:
        self._ticker = f"{os.getpid()}-{secrets.token_hex(4)}"
        self._epoch = ""
        self._shortened: set[int | None] = set()
        self._began_at = time.monotonic()
        self._did_all_at = float("-inf")
        self.workers = WorkerPlaces(0, 0)
        self._samples = False

    def shorten_first(self) -> None:
        """With its first tick a process sees to slots of an interval that was longer before."""
        for one in runtime().batcher.shards:
            if one.shard not in self._shortened:
                shorten_once(one)
                self._shortened.add(one.shard)

    def sample_first(self) -> None:
        """With the first tick of a minute, take a sample for the history."""
        if self._samples:
            self._samples = False
            sample_once(runtime().batcher)

    def elect(self) -> bool:
        """Take part in the election; True if this process is to do the duties now.

        While every callback has ended, they are done twice a minute only, first as it begins. Logs
        it if Redis has lost its data since the last time.
        """
        parts = runtime()
        interval_ms = ms(parts.settings.check_interval) * 9 // 10
        asked = time.monotonic()
        tick = parts.batcher.home.tick(
            self._ticker,
            interval_ms,
            known=self._epoch,
            threads=places.total,
            places=places.unproven_most,
            who=_who(),
            running_ms=round((asked - self._began_at) * 1_000),
        )
        took_ms = (time.monotonic() - asked) * 1_000
        log_tick(tick, known=self._epoch)
        self._epoch = tick.epoch
        broker.set_clock(tick.now_ms, took_ms=took_ms)
        if not tick.elected:
            return False
        self.workers = WorkerPlaces(tick.threads, tick.places)
        self._samples = tick.first_of_minute
        # Several shards are looked at by themselves, see `rounds`.
        is_idle = not (tick.busy or self._samples) and parts.batcher.count == 1
        if is_idle and asked - self._did_all_at < _IDLE_S:
            return False
        self._did_all_at = asked
        return True


def host_name() -> str:
    """What this machine is called, or on Heroku the dyno."""
    return os.environ.get("DYNO") or socket.gethostname()


def _who() -> str:
    """What operators are told of this process."""
    return json.dumps(
        {
            "host": host_name(),
            "pid": os.getpid(),
            "version": __version__,
            "kind": "greenlets" if has_greenlets() else "threads",
            "busy": places.busy,
            "broker": broker.broker_id,
        }
    )


def tick() -> None:
    """Do every duty once, in each shard that has something to do."""
    do_all(
        [
            _visit_shards,
            lambda: report_once(runtime().batcher.home),
            _election.sample_first,
            broker.forget_dead_workers,
            _election.shorten_first,
        ]
    )


def _visit_shards() -> None:
    shards, interval_s = runtime().batcher, runtime().settings.check_interval
    if shards.count == 1:
        _do_duties(shards.home)
        return
    words = shards.words()
    chosen = _rounds.choose(words, interval_s=interval_s)
    beat = partial(_liveness.beat, "ticker")
    visit = partial(_rounds.visit, shards, chosen, _election.workers, _do_duties, beat=beat)
    do_all([lambda: shards.follow(words), visit])


def _do_duties(shard: Batcher) -> None:
    messages = runtime().messages.of(shard.shard)
    do_all([*shard_duties(shard, messages, chance=_chance()), *_notices(shard)])


def _notices(shard: Batcher) -> list[Callable[[], object]]:
    """The duty to tell the application of deaths, if it wants to know."""
    name = runtime().settings.on_dead
    return [lambda: notify_once(shard, partial(_notify, name))] if name else []


def _chance() -> float:
    return random.random()  # noqa: S311 - spreads load, guards nothing


def _notify(actor_name: str, id: str, reason: str) -> None:
    """Send the application's actor word of a death."""
    find_actor(actor_name, broker).send(id, reason)


def warn_of_eviction(sleep: Callable[[float], object] = time.sleep) -> None:
    """Warn where Redis may delete what has to stay; asks again until it answers at all."""
    try:
        info = _memory_info(sleep)
    except redis.RedisError:
        return  # it must not be read here: `callbacks doctor` tells
    check = eviction(info.get("maxmemory_policy"), info.get("maxmemory"))
    if check.verdict is CheckStatus.FAILURE:
        log.warning("eviction", found=check.found, todo=check.todo)


def _memory_info(sleep: Callable[[float], object]) -> dict[str, Any]:
    while True:
        try:
            info: Any = runtime().client.info("memory")
        except (redis.ConnectionError, redis.TimeoutError):
            sleep(_ASK_AGAIN_S)
        else:
            return dict(info)


def refuse_to_start() -> None:
    """End the process if a setting names something that does not exist."""
    check_named(runtime().settings, broker)


def check_at_start() -> None:
    """Warn of what will hurt later. Redis is asked beside: it may be away when a worker starts."""
    threading.Thread(target=warn_of_eviction, name="callbacks-check", daemon=True).start()


def _note_scheduler() -> None:
    runtime().batcher.scheduled()
    reporter.start()  # here, too: it goes on if all workers are gone


def outlets() -> list[Outlet]:
    """Where this process tells the figures, if it is its turn."""
    every_s, found = runtime().settings.figures_interval, []
    if every_s:
        found.append(Outlet("figures", every_s, log_figures))
    if sdk.signals().metrics and (tell := _otlp()) is not None:
        found.append(Outlet("otlp", sdk.export_interval_s(), tell))
    return found


@cache
def _otlp() -> Callable[[Any], None] | None:
    """What exports figures; None without the extra, which is logged once."""
    try:
        from callbacks.monitor.otlp import OtlpMetrics  # noqa: PLC0415 - the extra
    except ImportError:
        log.warning("telemetry", problem=sdk.MISSING)
        return None
    return OtlpMetrics().tell


def work_is_due() -> bool:
    """Tell whether there is something to do and Redis lets it be done; raises where it does not.

    Over a connection of its own, as the watchdog wants it. The deletion shows that Redis takes
    writes; at worst one more tick runs.
    """
    with _own_connection() as client:
        batcher = Shards(client, runtime().settings)
        client.delete(batcher.home.scripts.keys.of("tick"))
        return batcher.is_due()


def _own_connection() -> Redis:
    """A client with one connection, beside the process's pool."""
    parts = runtime()
    own = parts.settings.model_copy(update={"redis_max_connections": 1})
    return connect(own, beside=parts.client)


def _open_places(threads: int, ours: bool) -> None:
    check_threads(threads)
    if ours:
        places.open(threads, runtime().settings.unproven_share)
        broker.threads = threads


places: Final = Places()
traces: Final = sdk.Traces()
reporter: Final = Reporter(lambda: runtime().batcher, outlets)
_election: Final = TickerElection()
_rounds: Final = Rounds()
_liveness: Final = Liveness()

# Dramatiq's defaults stay, because an application without a broker of its own gets this one
# and may use their options: AgeLimit and TimeLimit (ours are far below its ten minutes),
# ShutdownNotifications, Callbacks, Pipelines. Retries carries our retries; Periodic the cron.
broker: Final = CallbacksBroker(
    _connect,
    middleware=[
        Boot(prepare_process, refuse_to_start, check_at_start, _open_places),
        *(kind() for kind in default_middleware),
        Periodic(),
        SchedulerHeartbeat(_note_scheduler),
        Ticker(lambda: runtime().settings.check_interval, _election.elect, tick, _liveness),
        Listener(_own_connection),
        Telemetry(reporter.start, reporter.stop, traces.end),
        Watchdog(
            _liveness,
            work_is_due,
            lambda: runtime().settings.deadline,
            lambda: runtime().settings.check_interval,
        ),
    ],
    liveness=_liveness,
)


def set_broker_where_none_is_set() -> None:
    """Make ours Dramatiq's global broker, unless the application has one already.

    Ends a worker process of Dramatiq's that is to serve us and serves that one instead.
    """
    check_served(broker)
    if names_us():
        _set_logs_up()
    if dramatiq.broker.global_broker is None:
        dramatiq.set_broker(broker)
