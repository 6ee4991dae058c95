"""Workers of `dramatiq-gevent`, where they differ: one thread for all, which anybody may block."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from callbacks.worker.watchdog import STATUS
from tests.process.conftest import System
from tests.process.faults import OPEN, Enqueue, module, sooner
from tests.process.test_watchdog import IMPATIENT
from tests.support.processes import REPO, until
from tests.support.target import Target

_PATCHED = "from gevent import monkey; monkey.patch_all()\n"
#: A call that gevent does not know of, as of a driver that is written in C.
_BLOCKING = (
    "from callbacks.native import native\n"
    "def resolve(url, environment):\n"
    "    native('time', 'sleep')(3600)\n"
)
_NO_THREADS = """
import errno, socket
from callbacks.delivery import dns
from callbacks.delivery.deadline import Deadline

def refuse(*args):
    raise RuntimeError("can't start new thread")

monkey.saved["_thread"]["start_new_thread"] = refuse
try:
    dns.Lookups(dns.system_addresses).addresses("localhost", 80, Deadline(5))
except socket.gaierror as error:
    print(error.errno == socket.EAI_AGAIN, error.strerror)
"""


#: The child holds a copy of the connections to the receiver and to Redis.
_FORKED = """
import os, sys
import callbacks
from callbacks.delivery.callback import shared_transport
from callbacks.settings import load_settings

url = sys.argv[1]
transport = shared_transport(load_settings())

def work(id):
    assert transport.post(url, {"webhook-id": id}, b"{}").status == 200
    assert callbacks.enqueue(url, 1, id=id).accepted

work("before")
child = os.fork()
try:
    assert transport.adapter.idle_connections() == (1 if child else 0)
    for n in range(20):
        work(f"parent-{n}" if child else f"child-{n}")
except BaseException:
    if not child:
        os._exit(1)
    raise
if not child:
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""


def patched(code: str, *words: str, **env: str) -> str:
    """Run code as in a worker with greenlets; what it printed."""
    line = [sys.executable, "-c", _PATCHED + code, *words]
    more = os.environ | {"PYTHONPATH": str(REPO)} | env
    done = subprocess.run(
        line, cwd=REPO, env=more, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_worker_whose_one_thread_is_blocked_ends_and_says_where(
    system: System, enqueue: Enqueue, tmp_path: Path
) -> None:
    system.configure(**OPEN | {"deadline": 1})
    stuck = module(tmp_path, "stuck", IMPATIENT + _BLOCKING)
    with Target() as target:
        enqueue(target.url, 10)
        worker = system.groups.worker(
            kind="greenlets",
            processes=1,
            modules=[stuck],
            CALLBACKS_SECRET_RESOLVER="stuck:resolve",
        )
        assert worker.wait(40) == STATUS
        assert 'blocked_at="stuck.py:5 in resolve"' in worker.output
        system.groups.worker(kind="greenlets", processes=1, modules=[sooner(tmp_path)])
        until(lambda: len(target.counts()) == 10, within=45)
    until(system.settled, within=10)
    assert system.audit() == []


def test_requests_end_in_time_over_tls_and_where_bytes_drip() -> None:
    """Of `tests/http`, what greenlets may fail though threads pass."""
    said = patched(
        "import pytest, sys; sys.exit(pytest.main(sys.argv[1:]))",
        *("-q", "-p", "no:xdist", "-p", "no:cacheprovider", "tests/http/test_tls.py"),
        *("tests/http/test_hostile.py", "-k", "test_tls or dripped"),
    )
    assert " passed" in said


def test_a_forked_child_shares_no_connection_and_no_lock_with_its_parent(system: System) -> None:
    with Target() as target:
        patched(_FORKED, target.url, **system.groups.env)
        assert target.counts() == {
            "before": 1,
            **{f"{who}-{n}": 1 for n in range(20) for who in ("parent", "child")},
        }
    assert system.overview().queued == 41
    assert system.audit() == []


def test_a_lookup_that_gets_no_thread_is_told_as_with_threads() -> None:
    assert patched(_NO_THREADS) == ("True no thread for the name lookup: can't start new thread\n")
