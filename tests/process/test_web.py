"""`callbacks web` as a real process: behind a socket, through an outage, to its end."""

from __future__ import annotations

import json
import re
import signal
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack

from tests.process.conftest import System
from tests.process.faults import busy_s, command
from tests.process.test_doctor import examine
from tests.support.processes import Group, until
from tests.support.target import Target


def get(address: str, path: str) -> tuple[int, str]:
    """Return the status of a request, whatever it is; 0: nothing listens."""
    try:
        with urllib.request.urlopen(address + path, timeout=10) as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
    except urllib.error.URLError:
        return 0, ""


def listening(web: Group) -> str:
    """Wait until it listens; return its address."""
    until(lambda: "listening on " in web.output, within=20)
    return web.output.partition("listening on ")[2].split()[0]


def test_the_web_process_gets_over_an_outage_and_ends_when_it_is_told(system: System) -> None:
    web = system.groups.web()
    address = listening(web)
    assert address.startswith("http://127.0.0.1:")
    assert get(address, "/healthz")[0] == 200
    system.server.kill()
    until(lambda: get(address, "/healthz")[0] == 503, within=10)
    assert json.loads(get(address, "/healthz")[1])["health"] == "no redis"
    away = 'callbacks_health{state="no redis"} 1.0'
    assert away in get(address, "/metrics")[1]
    system.server.start()
    until(lambda: get(address, "/healthz")[0] == 200, within=10)
    system.server.signal(signal.SIGSTOP)
    until(lambda: away in get(address, "/metrics")[1], within=20)
    system.server.signal(signal.SIGCONT)
    until(lambda: get(address, "/healthz")[0] == 200, within=10)
    assert "callbacks_accepted_total 0.0" in get(address, "/metrics")[1]
    web.signal(signal.SIGTERM)
    assert web.wait(10) == 0
    assert web.output.count("event=redis_away") == 2
    assert web.output.count("event=redis_back") == 2
    assert "Traceback" not in web.output


def test_a_thousand_half_open_requests_keep_no_health_check_out(system: System) -> None:
    web = system.groups.web()
    host, _, port = listening(web).removeprefix("http://").partition(":")
    with ExitStack() as opened:
        for _ in range(1_000):
            half_open = opened.enter_context(socket.create_connection((host, int(port)), 5))
            half_open.sendall(b"GET /healthz HTTP/1.1\r\nhost:")
        started = time.monotonic()
        assert get(f"http://{host}:{port}", "/healthz")[0] == 200
        assert time.monotonic() - started < 2 + busy_s()


def test_workers_that_died_while_all_waits_behind_an_open_breaker_are_missed_everywhere(
    system: System, enqueue: Callable[..., None]
) -> None:
    system.configure(max_delay=0.2, check_interval=0.5, destination_interval=0)
    workers = system.groups.worker(processes=1)
    web = system.groups.web()
    address = listening(web)
    with Target(lambda hit, nth: 500) as target:
        enqueue(target.url, 48)
        until(lambda: any(d.breaker == "open" for d in system.inspector.destinations()), within=30)
    workers.kill()

    def told() -> list[object]:
        answer = get(address, "/healthz")
        status = json.loads(command(system, "status", "--json"))
        metrics = get(address, "/metrics")[1]
        (metric,) = re.findall(r'callbacks_health{state="([^"]+)"} 1.0', metrics)
        return [answer[0], json.loads(answer[1])["health"], status["health"], metric]

    assert told() == [200, "ok", "ok", "ok"]
    state = system.batcher.scripts.keys.of("state")
    system.batcher.scripts.client.hincrby(state, "ticked", -61_000)  # a minute passes
    until(lambda: told() == [503, "no worker", "no worker", "no worker"], within=10)
    check = examine(system)["workers"]
    assert check["verdict"] == "failure"
    assert check["found"].endswith("; 48 callbacks not sent yet")
    system.groups.worker(processes=1)
    until(lambda: told()[0] == 200, within=20)


def test_where_the_platform_gives_a_port_it_listens_for_everybody(system: System) -> None:
    web = system.groups.web(PORT="0")
    address = listening(web)
    assert address.startswith("http://0.0.0.0:")
    assert get(address.replace("0.0.0.0", "127.0.0.1"), "/healthz")[0] == 200


def test_a_port_in_use_is_reported_in_one_line(system: System) -> None:
    with Target() as target:
        port = target.url.split(":")[2].partition("/")[0]
        web = system.groups.web(port=port)
        assert web.wait(20) == 1
    (line,) = web.output.splitlines()
    assert line.startswith(f"callbacks: cannot listen on 127.0.0.1:{port}: ")
