"""Log lines of Dramatiq's consumers while Redis is away."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from structlog.processors import LogfmtRenderer

from callbacks import log as logs
from callbacks.log import RateLimit
from tests.support.processes import until


def record(name: str, message: str, level: int = logging.CRITICAL) -> logging.LogRecord:
    return logging.LogRecord(name, level, "", 0, message, ("reason",), None)


def test_a_repeated_line_of_a_consumer_passes_once_in_30_s_and_says_how_many_there_were() -> None:
    now = [0.0]
    calm = RateLimit(lambda: now[0])
    consumer = "dramatiq.worker.ConsumerThread(callbacks)"
    assert calm.filter(record(consumer, "error: %s"))
    for _ in range(9):
        now[0] += 3
        assert not calm.filter(record(consumer, "error: %s"))
    now[0] += 3
    last = record(consumer, "error: %s")
    assert calm.filter(last)
    assert last.getMessage() == "error: reason (9 more like this before)"
    now[0] += 30
    again = record(consumer, "error: %s")
    assert calm.filter(again)
    assert again.getMessage() == "error: reason"


def test_other_lines_other_consumers_and_other_loggers_pass() -> None:
    calm = RateLimit(lambda: 0.0)
    for name, message in (
        ("dramatiq.worker.ConsumerThread(callbacks)", "one: %s"),
        ("dramatiq.worker.ConsumerThread(callbacks)", "two: %s"),
        ("dramatiq.worker.ConsumerThread(callbacks.DQ)", "one: %s"),
    ):
        assert calm.filter(record(name, message))
        assert not calm.filter(record(name, message))
    for _ in range(2):
        assert calm.filter(record("dramatiq.worker.WorkerThread", "failed: %s"))
        assert calm.filter(record("dramatiq.worker.ConsumerThread(x)", "seen: %s", logging.DEBUG))


class _SlowPipe:
    """A standard error whose first write blocks until `go`."""

    def __init__(self) -> None:
        self.begun, self.go = threading.Event(), threading.Event()
        self.text = ""

    def write(self, text: str) -> None:
        if not self.begun.is_set():
            self.begun.set()
            assert self.go.wait(10)
        self.text += text


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch) -> Iterator[_SlowPipe]:
    """A slow standard error, on which another thread is writing `first`."""
    pipe = _SlowPipe()
    monkeypatch.setattr(logs, "sys", SimpleNamespace(stderr=pipe))  # pytest sets the real one
    monkeypatch.setattr(logs, "_format", {"name": "logfmt", "own": True, "direct": False})
    monkeypatch.setattr(logs.LOGGER, "level", logging.INFO)
    monkeypatch.setattr(logs._Stream, "MOST", 5)
    monkeypatch.setattr(logs._Stream, "WAIT_S", 0.01)
    first = threading.Thread(target=logs.log.info, args=("first",))
    first.start()
    assert pipe.begun.wait(10)
    yield pipe
    pipe.go.set()
    first.join(10)
    logs._STREAM.reset_after_fork()


def written(pipe: _SlowPipe) -> list[str]:
    until(lambda: not logs._STREAM._texts, within=10)
    return [line.split(" ", 2)[2] for line in pipe.text.splitlines()]


@pytest.mark.parametrize("count", [3, 12])  # 12: more than others take without waiting
def test_threads_leave_their_lines_to_the_one_that_is_writing(pipe: _SlowPipe, count: int) -> None:
    for n in range(count):
        logs.log.info("more", n=n)  # returns although the first one is still writing
    assert pipe.text == ""
    pipe.go.set()
    until(lambda: pipe.text.endswith(f"n={count - 1}\n"), within=10)
    assert written(pipe) == ["event=first", *(f"event=more n={n}" for n in range(count))]


def test_a_forked_child_leaves_its_lines_to_nobody_of_its_parent(pipe: _SlowPipe) -> None:
    logs.log.info("of the parent")
    child = os.fork()
    if not child:
        logs.log.info("of the child")
        fine = pipe.text.count("of the child") == 1 and "of the parent" not in pipe.text
        os._exit(0 if fine else 1)
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.parametrize("count", [3, 30])  # 30: more than a pipe takes in one piece
def test_a_worker_writes_whole_lines_to_its_own_standard_error(
    pipe: _SlowPipe, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    pipe.go.set()
    read_end, write_end = os.pipe()
    monkeypatch.setitem(logs._format, "direct", True)
    monkeypatch.setattr(logs, "_STDERR", write_end)
    until(lambda: pipe.text.endswith("event=first\n"), within=10)
    texts = [f"{n} {'x' * 60} \udc80\n" for n in range(count)]
    logs._write_directly(texts)
    logs.log.info("attempt", n=1)
    os.close(write_end)
    with os.fdopen(read_end, encoding="utf-8") as received:
        *lines, last = received.read().splitlines(keepends=True)
    assert lines == [text.replace("\udc80", "?") for text in texts]
    assert last.endswith(" level=info event=attempt n=1\n")


def test_a_full_pipe_that_does_not_block_gets_every_line_whole(
    pipe: _SlowPipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe.go.set()
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    monkeypatch.setattr(logs, "_STDERR", write_end)
    monkeypatch.setattr(logs._Stream, "WAIT_S", 10)
    received: list[bytes] = []

    def read() -> None:
        with os.fdopen(read_end, "rb") as stream:
            while piece := stream.read1(8_192):
                received.append(piece)
                time.sleep(0.001)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    texts = [f"{n} {'x' * (10_000 if n % 10 == 0 else 100)}\n" for n in range(300)]
    for start in range(0, 300, 20):
        logs._write_directly(texts[start : start + 20])
    os.close(write_end)
    reader.join(10)
    assert b"".join(received).decode() == "".join(texts)


def test_a_pipe_that_nobody_reads_is_not_waited_for_long(
    pipe: _SlowPipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe.go.set()
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    monkeypatch.setattr(logs, "_STDERR", write_end)
    with pytest.raises(BlockingIOError):
        logs._write_directly(["x" * 200_000 + "\n"])
    os.close(write_end)
    os.close(read_end)


values = st.none() | st.booleans() | st.integers() | st.floats() | st.text()


@given(st.dictionaries(st.sampled_from(["level", "id", "event", "status", "detail"]), values))
@example({"event": "attempt", "detail": "a b"})
@example({"event": "True", "detail": True})
@example({"event": 'a"b', "detail": "\\", "id": "x\ny"})
@example({})
def test_a_line_is_what_structlog_makes_of_it(event: dict[str, object]) -> None:
    by_structlog = LogfmtRenderer(key_order=logs._KEY_ORDER, drop_missing=True)
    expected = by_structlog(None, "info", event.copy())
    assert logs._logfmt(None, "info", event.copy()) == expected


#: A process in which everything writes to the log that may, set up as Dramatiq does.
PROCESS = """
import logging, sys, threading, traceback
logging.basicConfig(level=logging.INFO, format="[%(name)s] %(message)s")
from callbacks import log as logs
logs.configure(sys.argv[1])
logs.configure(sys.argv[1])
def fail():
    raise ValueError("no luck")
logs.log.info("batch", size=1)
logging.getLogger("dramatiq.worker").info("ready: %s", "now")
try:
    fail()
except ValueError:
    logging.getLogger("periodiq").exception("Unhandled\\nerror:")
    logs.log.exception("tick_failed")
    traceback.print_exc()
print("a bare word", end="", file=sys.stderr, flush=True)
thread = threading.Thread(target=fail, name="worker-1")
thread.start()
thread.join()
raise KeyError("at last")
"""


def stderr_of(log_format: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", PROCESS, log_format], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    return done.stderr.splitlines()


def test_every_line_of_a_process_is_json() -> None:
    lines = [json.loads(line) for line in stderr_of("json")]
    assert all({"timestamp", "level", "event"} <= line.keys() for line in lines)
    ours = [line for line in lines if line["event"] not in {"stderr", "library"}]
    assert [line["event"] for line in ours] == ["batch", "tick_failed", "crashed", "crashed"]
    assert "no luck" in ours[1]["exception"]
    assert (ours[2]["thread"], ours[2]["level"]) == ("worker-1", "critical")
    assert "at last" in ours[3]["exception"]
    foreign = [line for line in lines if line["event"] == "library"]
    assert [line["message"] for line in foreign] == ["ready: now", "Unhandled\nerror:"]
    assert "no luck" in foreign[1]["exception"]
    stray = [line["text"] for line in lines if line["event"] == "stderr"]
    assert stray[0] == "Traceback (most recent call last):"
    assert stray[-2:] == ["ValueError: no luck", "a bare word"]


def test_every_line_of_a_process_is_logfmt() -> None:
    lines = stderr_of("logfmt")
    assert [line for line in lines if not line.startswith("timestamp=")] == []
    assert all(" level=" in line and " event=" in line for line in lines)
    assert any('message="ready: now"' in line for line in lines)


def test_in_the_console_the_lines_of_others_stay_as_they_are() -> None:
    lines = stderr_of("console")
    assert {"[dramatiq.worker] ready: now", "a bare word"} <= {*lines, lines[-1]} | {
        line[:11] for line in lines
    }


def test_a_lost_connection_of_a_consumer_is_a_warning() -> None:
    calm = RateLimit(lambda: 0.0)
    lost = record(RateLimit.PREFIX, "Consumer encountered a connection error: %s")
    assert calm.filter(lost)
    assert (lost.levelno, lost.levelname) == (logging.WARNING, "WARNING")
    other = record(RateLimit.PREFIX, "Consumer encountered an unexpected error.")
    assert calm.filter(other)
    assert other.levelno == logging.CRITICAL
