"""What `requests` can do without any queue: each process posts its share in a loop.

Each thread has a session. After a few requests the process stops itself, as others' workers are
stopped while callbacks are enqueued, and runs on when continued.
"""

from __future__ import annotations

import os
import signal
import sys
import threading

import requests

from scripts.benchmark.drain import WARM
from scripts.benchmark.request import BODY, headers


def _post(session: requests.Session, url: str, first: int, last: int) -> None:
    for n in range(first, last):
        answer = session.post(
            url, data=BODY, headers=headers(f"c-{n}"), timeout=(3, 7), allow_redirects=False
        )
        answer.raise_for_status()


def _together(sessions: list[requests.Session], url: str, count: int) -> None:
    """Post `count` requests, divided among the sessions, with one thread for each."""
    edges = [count * n // len(sessions) for n in range(len(sessions) + 1)]
    threads = [
        threading.Thread(target=_post, args=(session, url, first, last))
        for session, first, last in zip(sessions, edges, edges[1:], strict=False)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def main(processes: int, threads: int) -> None:
    """Warm up, stop, and post this process's share."""
    url, count = os.environ["BENCH_URL"], int(os.environ["BENCH_COUNT"])
    sessions = [requests.Session() for _ in range(threads)]
    _together(sessions, url, WARM // processes)
    os.kill(os.getpid(), signal.SIGSTOP)
    _together(sessions, url, count // processes)
    threading.Event().wait()  # its CPU time is still to be read


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
