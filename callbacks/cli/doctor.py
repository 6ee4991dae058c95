"""`callbacks doctor`: runs all checks and prints one line for each."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from dataclasses import asdict
from typing import Final

import click
import redis
from rich.text import Text

from callbacks.batcher.memory import read_memory
from callbacks.cli.command import Failure, json_option, print_json, print_rows, table
from callbacks.model import SettingsError
from callbacks.monitor import service_checks
from callbacks.monitor.checks import Check, CheckStatus
from callbacks.monitor.health import health
from callbacks.monitor.probes import (
    UNREACHABLE,
    Clock,
    read_server,
    read_trip,
    read_work,
    read_workers,
)
from callbacks.monitor.redis_checks import judge_server
from callbacks.monitor.topology_checks import worst_of
from callbacks.monitor.topology_probes import connections_each, judge_topology, primaries
from callbacks.runtime import Runtime, broker, runtime
from callbacks.settings import Settings
from callbacks.text import printable
from callbacks.worker.consumer import QUEUE
from callbacks.worker.serving import find_actor

_STYLES: Final = {
    CheckStatus.OK: "green",
    CheckStatus.WARNING: "yellow",
    CheckStatus.FAILURE: "red",
}


@click.command()
@click.argument("modules", metavar="[MODULE]...", nargs=-1)
@json_option
def doctor(modules: tuple[str, ...], as_json: bool) -> None:
    """Check settings, Redis, workers and totals; say what to do.

    MODULEs are those that your workers load besides callbacks. Changes nothing, and takes up to
    6 s if no worker is running. Exits with 1 if a check failed; warnings are not failures.
    """
    checks = list(_checks(modules))
    if as_json:
        print_json([asdict(check) | {"runbook": check.runbook} for check in checks])
    else:
        _print(checks)
    failed = [check.name for check in checks if check.verdict is CheckStatus.FAILURE]
    if failed:
        raise Failure(f"{len(failed)} of {len(checks)} checks failed: {', '.join(failed)}")


def _checks(modules: tuple[str, ...]) -> Iterator[Check]:
    """Run the checks; an early failure leaves out those that depend on it."""
    try:
        found = runtime()
    except SettingsError as error:
        yield service_checks.bad_settings(str(error))
        return
    yield from service_checks.judge_settings(found.settings)
    yield service_checks.on_dead(found.settings, _missing_actor(found.settings, modules))
    try:
        yield from _of_redis(found)
    except redis.RedisError as error:
        yield service_checks.unreached(found.settings, error)


def _missing_actor(settings: Settings, modules: tuple[str, ...]) -> str:
    """Why a worker that loads these modules would not start because of CALLBACKS_ON_DEAD."""
    if not settings.on_dead:
        return ""
    sys.path.insert(0, "")  # as Dramatiq's command does
    try:
        for module in modules:
            importlib.import_module(module)
        find_actor(settings.on_dead, broker)
    except LookupError as error:
        return str(error.args[0])
    except Exception as error:  # noqa: BLE001 - the application's code may raise anything
        return f"CALLBACKS_ON_DEAD: {type(error).__name__}: {error}"
    finally:
        sys.path.remove("")
    return ""


def _of_redis(found: Runtime) -> list[Check]:
    settings, client, clock = found.settings, found.client, Clock()
    servers = primaries(client).items()
    seen = {at: (read_server(each), read_trip(each, clock)) for at, each in servers}
    polling = 0
    try:
        workers = read_workers(
            client,
            settings.namespace,
            QUEUE,
            check_interval_s=settings.check_interval,
            clock=clock,
            messages=settings.message_namespace,
        )
        polling = workers.polling
        work = read_work(
            found.batcher.scripts, settings.namespace, QUEUE, messages=settings.message_namespace
        )
        memory = read_memory(found.batcher.scripts)
        state = health(
            work.books,
            found.batcher.look(),
            work.survey,
            memory,
            in_trouble=len(work.trouble),
            settings=settings,
        )
        rest = service_checks.judge_work(work, workers, state, settings)
    except UNREACHABLE:
        raise
    except redis.RedisError as error:
        rest = [service_checks.unreadable(settings, error)]
    topology = judge_topology(client)
    per_process = connections_each(client) + 1  # one on which a worker is told of messages
    judged = {
        at: judge_server(
            server,
            trip,
            processes=polling,
            per_process=per_process,
            alone=not topology,
            wait_for=settings.wait_for,
            wait_s=settings.wait_timeout,
        )
        for at, (server, trip) in seen.items()
    }
    return [service_checks.reached(settings), *topology, *worst_of(judged), *rest]


def _print(checks: list[Check]) -> None:
    rows = table("check", "verdict", "found; what to do")
    for check in checks:
        words = "; do: ".join(filter(None, (check.found, check.todo)))
        if check.verdict is CheckStatus.FAILURE:
            words += f"; more: {check.runbook}"
        rows.add_row(
            check.name, Text(check.verdict, style=_STYLES[check.verdict]), printable(words)
        )
    print_rows(rows)
