"""Structured log lines: a fixed event name, then key=value; one line per attempt.

The package logs to the standard logger `callbacks` and configures nothing on import; our own
processes (workers, the scheduler, the command) call `configure`. They write lines directly,
because `logging`'s records and handlers would cost more than the line itself.

structlog, which imports rich, is loaded for the first line only: enqueueing logs nothing.
"""

from __future__ import annotations

import logging
import os
import re
import select
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Any, Final, cast

from callbacks.forks import renew_after_fork

if TYPE_CHECKING:
    from types import TracebackType

    from structlog.stdlib import BoundLogger
    from structlog.typing import EventDict

LOGGER: Final = logging.getLogger("callbacks")

_KEY_ORDER: Final = ("timestamp", "level", "event", "id", "destination")
#: What structlog writes differently than `str` does, besides spaces and equals signs.
_NOT_PLAIN: Final = re.compile(r'["\\\n]|=(?:True|False|None)\b').search
#: So many characters of any kind fit into one write that a pipe does not tear (PIPE_BUF).
_MOST_CHARS: Final = 1_000
_STDERR: Final = 2
_format = {"name": "logfmt", "own": False, "direct": False}


@cache
def _structlog() -> Any:
    import structlog  # noqa: PLC0415 - see above

    return structlog


@cache
def _renderer(name: str) -> Any:
    if name == "json":
        return _structlog().processors.JSONRenderer()
    if name == "console":
        return _structlog().dev.ConsoleRenderer(colors=False)
    return _logfmt


@cache
def _any_logfmt() -> Any:
    return _structlog().processors.LogfmtRenderer(key_order=_KEY_ORDER, drop_missing=True)


def _logfmt(logger: Any, method: str, event: EventDict) -> Any:
    """What structlog's renderer makes of a line, in a third of its time if nothing needs quotes."""
    ordered = {name: event[name] for name in _KEY_ORDER if name in event} | {**event}
    line = " ".join([f"{name}={value}" for name, value in ordered.items()])
    is_plain = line.count(" ") == len(event) - 1 and line.count("=") == len(event)
    if is_plain and not _NOT_PLAIN(line):
        return line
    return _any_logfmt()(logger, method, event)


@cache
def _stamp() -> Any:
    return _structlog().processors.TimeStamper(fmt="iso", utc=True)


def _render(logger: Any, method: str, event: EventDict) -> Any:
    event = {name: value for name, value in event.items() if value is not None}
    if _format["own"]:
        event["level"] = method
        event = _stamp()(logger, method, event)
    return _renderer(str(_format["name"]))(logger, method, event)


class _Outlet:
    """The standard logger, or in our own processes standard error."""

    def __getattr__(self, name: str) -> Any:
        return self.write if _format["own"] and name in _LEVELS else getattr(LOGGER, name)

    @staticmethod
    def write(line: str) -> None:
        _STREAM.write(line + "\n")


class _Stream:
    """Standard error for many threads, one writer at a time: two would mix lines in the pipe.

    A thread that finds another one writing leaves its text to that one. If it waited, it would
    also wait for the interpreter, and 60 other threads for it.
    """

    #: How many texts may be left to other threads before one waits, as for any full pipe.
    MOST: Final = 1_000
    WAIT_S: Final = 1.0
    #: How often a writer checks for more texts before it leaves them to the next thread.
    ROUNDS: Final = 10

    def __init__(self) -> None:
        renew_after_fork(self)

    def reset_after_fork(self) -> None:
        """Forget pending texts: in a forked child, the threads that write them do not exist."""
        self._writing = threading.RLock()
        self._texts: deque[str] = deque(maxlen=10 * self.MOST)

    def write(self, text: str) -> None:
        """Write a text, or leave it to the thread that is writing."""
        self._texts.append(text)
        if len(self._texts) > self.MOST and self._writing.acquire(timeout=self.WAIT_S):
            try:
                self._pass_on()
            finally:
                self._writing.release()
        for _ in range(self.ROUNDS):
            if not self._texts or not self._writing.acquire(blocking=False):
                return
            try:
                self._pass_on()
            finally:
                self._writing.release()

    def flush(self) -> None:
        """Do nothing: pending texts are already being written."""

    def _pass_on(self) -> None:
        texts: list[str] = []
        with suppress(IndexError):
            while True:
                texts.append(self._texts.popleft())
        with suppress(OSError, ValueError, AttributeError):  # a lost line must not stop any work
            if _format["direct"]:
                _write_directly(texts)
            else:
                stream = sys.stderr  # looked up each time: Dramatiq replaces it
                getattr(stream, "beneath", stream).write("".join(texts))


def _write_directly(texts: Sequence[str]) -> None:
    """Write to the process's own standard error, so that other processes' lines do not mix in."""
    pieces = ["".join(texts)]
    if len(pieces[0]) > _MOST_CHARS:
        pieces = [*texts]
    for piece in pieces:
        _write_whole(piece.encode(errors="replace"))


def _write_whole(data: bytes) -> None:
    """Write all of it: a full pipe that another program has made non-blocking takes a part."""
    give_up = time.monotonic() + _Stream.WAIT_S
    while data:
        try:
            data = data[os.write(_STDERR, data) :]
        except BlockingIOError:
            if time.monotonic() >= give_up:
                raise
            select.select([], [_STDERR], [], _Stream.WAIT_S)


_STREAM: Final = _Stream()
_LEVELS: Final = frozenset({"debug", "info", "warning", "error", "critical", "exception"})


class _Log:
    """The package's logger, built when it first logs."""

    def __getattr__(self, name: str) -> Any:
        return getattr(_logger(), name)

    @staticmethod
    def info(event: str, **fields: Any) -> None:
        """Log a line. In our own processes this goes past structlog's logger: each attempt does."""
        if not _format["own"]:
            _logger().info(event, **fields)
        elif LOGGER.isEnabledFor(logging.INFO):
            _Outlet.write(_render(None, "info", {**fields, "event": event}))


@cache
def _logger() -> BoundLogger:
    structlog = _structlog()
    made: BoundLogger = structlog.wrap_logger(
        _Outlet(),
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.processors.format_exc_info,
            _render,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    return made


log: Final = cast("BoundLogger", _Log())


class _Lines(logging.Formatter):
    """Writes lines of other loggers (Dramatiq's, periodiq's, the application's) as ours are."""

    def format(self, record: logging.LogRecord) -> str:
        """One line; a traceback is a field of it."""
        event: EventDict = {"event": "library", "logger": record.name, "pid": record.process}
        event["message"] = record.getMessage()
        if record.exc_info:
            event["exception"] = self.formatException(record.exc_info)
        return _line(record.levelname.lower(), event)


def _line(level: str, event: EventDict) -> str:
    event["level"] = level
    return str(_renderer(str(_format["name"]))(None, level, _stamp()(None, level, event)))


class _StrayText:
    """Standard error in a process of ours: text that others print there becomes lines of the log.

    That is e.g. the traceback with which multiprocessing ends a process.
    """

    def __init__(self, beneath: Any) -> None:
        self.beneath = beneath
        self._unfinished = threading.local()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.beneath, name)

    def write(self, text: str) -> int:
        """Log each line once it is complete."""
        *lines, rest = (getattr(self._unfinished, "text", "") + text).split("\n")
        self._unfinished.text = rest
        for line in lines:
            self._log(line)
        return len(text)

    def flush(self) -> None:
        """Log what was written of a line."""
        rest, self._unfinished.text = getattr(self._unfinished, "text", ""), ""
        self._log(rest)

    @staticmethod
    def _log(line: str) -> None:
        if line.strip():
            _STREAM.write(_line("warning", {"event": "stderr", "text": line}) + "\n")


class RateLimit(logging.Filter):
    """Passes each line of Dramatiq's consumers once in 30 s, with how often it was repeated.

    While Redis is down, each consumer repeats its lines every 3 s, and each of 64 threads with a
    message to acknowledge repeats three lines every 5 s. A consumer comes back by itself when Redis
    does, so its lost connection is a warning, whatever Dramatiq calls it.
    """

    PREFIX: Final = "dramatiq.worker.ConsumerThread"
    LOST: Final = "Consumer encountered a connection error"
    EVERY_S: Final = 30.0

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._monotonic = monotonic
        self._passed: dict[tuple[str, str], float] = {}
        self._held: dict[tuple[str, str], int] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to pass a line."""
        if record.levelno < logging.INFO or not record.name.startswith(self.PREFIX):
            return True
        if str(record.msg).startswith(self.LOST):
            record.levelno, record.levelname = logging.WARNING, "WARNING"
        now, line = self._monotonic(), (record.name, str(record.msg))
        if now - self._passed.get(line, -self.EVERY_S) < self.EVERY_S:
            self._held[line] = self._held.get(line, 0) + 1
            return False
        self._passed[line] = now
        if more := self._held.pop(line, 0):
            record.msg = f"{record.msg} ({more} more like this before)"
        return True


def configure(log_format: str, *, level: int = logging.INFO, direct: bool = False) -> None:
    """Write this package's lines to stderr in `log_format`, with time and level.

    So are, but for the format `console`, the lines of other loggers, what else is printed on
    stderr, and the traceback of an exception that nobody catches. May be called again.

    `direct`: not through `sys.stderr`. In a worker that is a pipe to Dramatiq's parent process,
    which reads and writes each line once more.
    """
    _format.update(name=log_format, own=True, direct=direct)
    LOGGER.setLevel(level)
    for handler in logging.getLogger().handlers:
        _adopt(handler)
    if log_format == "console":
        return
    sys.excepthook, threading.excepthook = _crashed, _thread_crashed
    if sys.stderr is not None and not isinstance(sys.stderr, _StrayText):
        sys.stderr = _StrayText(sys.stderr)


def _adopt(handler: logging.Handler) -> None:
    """Limit the rate of a handler, and if it writes to stderr, have it write lines like ours."""
    if not any(isinstance(each, RateLimit) for each in handler.filters):
        handler.addFilter(RateLimit())
    if not isinstance(handler, logging.StreamHandler):
        return
    if handler.stream is sys.stderr:
        handler.setStream(_STREAM)
    if handler.stream is _STREAM and _format["name"] != "console":
        handler.setFormatter(_Lines())


def _crashed(
    kind: type[BaseException], error: BaseException, traceback: TracebackType | None
) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, traceback)
        return
    log.critical("crashed", exc_info=(kind, error, traceback))


def _thread_crashed(given: threading.ExceptHookArgs) -> None:
    if given.exc_value is None or issubclass(given.exc_type, SystemExit):
        return
    name = given.thread.name if given.thread else None
    error = (given.exc_type, given.exc_value, given.exc_traceback)
    log.critical("crashed", thread=name, exc_info=error)
