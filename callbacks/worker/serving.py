"""Whether this worker process of Dramatiq's can do what it was started for; if not, it ends.

A supervisor sees a process that ends; nobody sees a warning. Each refusal is one line on stderr
that names the variable or the command, and exit code 1.
"""

from __future__ import annotations

import inspect
import os
import resource
import sys
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Any, Final, NoReturn

import dramatiq
from dramatiq import Actor, Broker

from callbacks.native import has_greenlets
from callbacks.request.secrets import SecretResolverError, load_resolver
from callbacks.worker.compatibility import misfit

if TYPE_CHECKING:
    from callbacks.settings import Settings

_PACKAGE: Final = "callbacks"
#: Of a process beside those for messages: the main one, two consumers, Dramatiq's for time limits,
#: ticker, listener and watchdog. And the parent's, whose second one reads the others' log lines.
_OWN_THREADS: Final = 7
_PARENTS_THREADS: Final = 2


def refuse(line: str) -> NoReturn:
    """End the process with one line."""
    raise SystemExit(f"callbacks: {' '.join(line.split())}")


def check_dramatiq() -> None:
    """Refuse to serve if our broker does not support this Dramatiq."""
    if _worker_frame() is not None and (line := misfit()):
        refuse(line)


def check_threads(threads: int) -> None:
    """Refuse more threads than the system gives, while there are still enough to say so.

    Else the parent may get none: it dies, and its processes go on without anybody to stop them.
    """
    worker, limit = _worker_frame(), resource.getrlimit(resource.RLIMIT_NPROC)[0]
    is_limited = sys.platform == "linux" and limit != resource.RLIM_INFINITY and os.geteuid() != 0
    if worker is None or not is_limited or has_greenlets():
        return
    processes = worker.f_locals["args"].processes
    needed = processes * (threads + _OWN_THREADS) + _PARENTS_THREADS
    if needed > limit:
        refuse(
            f"--processes {processes} --threads {threads} takes {needed} processes and threads,"
            f" and this user may have {limit} (ulimit -u); take fewer, or run dramatiq-gevent"
        )


def check_named(settings: Settings, ours: Broker) -> None:
    """Refuse to start if a setting names something missing; the modules are imported by now."""
    if settings.secret_resolver:
        try:
            load_resolver(settings.secret_resolver)
        except SecretResolverError as error:
            refuse(f"CALLBACKS_SECRET_RESOLVER: {error}; expected module:function")
    if settings.on_dead:
        try:
            find_actor(settings.on_dead, ours)
        except LookupError as error:
            refuse(str(error.args[0]))


def find_actor(name: str, ours: Broker) -> Actor[Any, Any]:
    """Return the actor of the application that hears of deaths; LookupError says what to do."""
    if name in ours.actors:
        return ours.actors[name]
    known = dramatiq.broker.global_broker
    if known is not None and name in known.actors:
        raise LookupError(
            f"CALLBACKS_ON_DEAD: actor {name!r} is on another broker than the one served here, so"
            " it would never run; declare it with broker=callbacks.runtime.broker"
        )
    raise LookupError(
        f"CALLBACKS_ON_DEAD: no actor {name!r} here; start the workers with the module that has"
        " it: dramatiq callbacks yourapp.tasks"
    )


def check_served(ours: Broker) -> None:
    """Refuse where Dramatiq was told to serve us after a module whose broker it serves instead.

    It serves the first module's broker alone: ours would stand beside it, and nothing be sent.
    Importing us there to enqueue is fine, so what counts is whether its command names us.
    """
    worker = _worker_frame()
    if worker is None:
        return
    names = worker.f_locals
    modules = [names["args"].broker, *names["args"].modules]
    served = names.get("broker")  # not yet set while the first module is imported
    if served is None and ":" not in modules[0]:
        served = dramatiq.broker.global_broker
    if any(map(_is_ours, modules)) and served is not None and served is not ours:
        refuse(
            f"dramatiq serves the broker of {modules[0]!r}, which has none of our actors: nothing"
            " would be sent; run `dramatiq callbacks` by itself, your modules after it"
        )


def sibling() -> tuple[int, int]:
    """Number this worker process among those of one `dramatiq`, from 0, and count them."""
    worker = _worker_frame()
    if worker is None:
        raise RuntimeError("this is no worker process of Dramatiq's")
    return worker.f_locals["worker_id"], worker.f_locals["args"].processes


def owns_stderr() -> bool:
    """Whether this is a worker whose lines Dramatiq would only pass on to the same standard error.

    With `--log-file` they go elsewhere. Of a command that was started without standard error, its
    file descriptor leads to whatever was opened first, such as Dramatiq's shared memory.
    """
    worker = _worker_frame()
    return bool(worker and sys.__stderr__ and not worker.f_locals["args"].log_file)


def names_us() -> bool:
    """Whether Dramatiq's worker or periodiq, importing us now, was told to serve us."""
    periodiq: Any = sys.modules.get("periodiq")
    frame = _worker_frame() or (periodiq and _frame_of(periodiq.main.__code__))
    if frame is None:
        return False
    args = frame.f_locals["args"]
    return any(map(_is_ours, [args.broker, *args.modules]))


def _is_ours(module: str) -> bool:
    return module.partition(":")[0].partition(".")[0] == _PACKAGE


def _worker_frame() -> FrameType | None:
    """Find the call of Dramatiq's that runs a worker process, where that is what imports us."""
    cli: Any = sys.modules.get("dramatiq.cli")
    return _frame_of(cli.worker_process.__code__) if cli else None


def _frame_of(code: CodeType) -> FrameType | None:
    """Find the call of a function that has led here."""
    frame = inspect.currentframe()
    while frame is not None and frame.f_code is not code:
        frame = frame.f_back
    return frame
