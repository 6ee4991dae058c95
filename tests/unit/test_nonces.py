from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from callbacks.worker.nonces import Nonces


def test_no_two_threads_get_the_same() -> None:
    nonces = Nonces()
    with ThreadPoolExecutor(16) as threads:
        made = list(threads.map(lambda _: nonces.next(), range(20_000)))
    assert len(set(made)) == 20_000


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_makes_others_than_its_parent() -> None:
    nonces, (read, write) = Nonces(), os.pipe()
    if not os.fork():
        os.write(write, nonces.next().encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        assert pipe.read() != nonces.next()
    os.wait()
