"""`scripts/scale`: see its `--help`."""

from __future__ import annotations

import statistics
import sys
import time
from typing import Final

import click
from redis import Redis
from rich.console import Console
from rich.table import Table

from callbacks.batcher.store import Batcher
from callbacks.settings import load_settings
from tests.scale.commands import COMMANDS, run
from tests.scale.fill import load_scripts, prove, put
from tests.scale.gauge import Gauge
from tests.scale.verbs import Verbs
from tests.support.server import Server, binaries

#: No script of ours may hold Redis longer.
MOST_MS: Final = 5.0


@click.command()
@click.option("--count", type=click.IntRange(10_000), default=1_000_000, show_default=True)
@click.option("--destinations", type=click.IntRange(1), default=100_000, show_default=True)
@click.option("--batch-size", type=click.IntRange(20), default=100, show_default=True)
@click.option("--commands", type=click.BOOL, default=True, show_default=True)
def scale(count: int, destinations: int, batch_size: int, commands: bool) -> None:
    """Measure every verb and command on a separate Redis with a large backlog.

    Exits 1 if a script of ours held Redis for more than 5 ms.
    """
    screen = Console(width=110)
    server = Server(binaries()["valkey"]).start()
    environ = {
        "REDIS_URL": server.url,
        "CALLBACKS_MIN_INTERVAL": "0",
        "CALLBACKS_SEND_INTERVAL": "0",
        "CALLBACKS_BATCH_SIZE": str(batch_size),
    }
    try:
        with server.client() as client:
            gauge = Gauge(client)
            load_scripts(client)
            batcher = Batcher(client, load_settings(environ))
            _fill(batcher, count, destinations, screen)
            if commands:
                _run_commands(environ, gauge, screen)
            Verbs(batcher, gauge, count, destinations).run()
    finally:
        server.stop()
    screen.print(_table(gauge))
    held = [name for name, cost in gauge.costs.items() if max(cost.redis_ms) > MOST_MS]
    for name in held:
        screen.print(f"WRONG {name} held Redis for more than {MOST_MS:g} ms")
    sys.exit(1 if held else 0)


def _fill(batcher: Batcher, count: int, destinations: int, screen: Console) -> None:
    client, began = batcher.scripts.client, time.monotonic()
    before = _used(client)
    prove(client, destinations)
    proven = _used(client)
    put(batcher, range(count), destinations)
    screen.print(
        f"{count:,} for {destinations:,} destinations in {time.monotonic() - began:.0f} s; "
        f"{(_used(client) - proven) / count:.0f} bytes a callback, "
        f"{(proven - before) / destinations:.0f} a destination that was used"
    )


def _used(client: Redis) -> int:
    return int(client.info("memory")["used_memory"])


def _run_commands(environ: dict[str, str], gauge: Gauge, screen: Console) -> None:
    table = Table("command", "first word", "took", "exit", "longest in Redis")
    for command in COMMANDS:
        done = run(command, environ, gauge)
        table.add_row(
            " ".join(command),
            "-" if done.first_s is None else f"{done.first_s:.2f} s",
            f"{done.took_s:.2f} s",
            "killed" if done.code is None else str(done.code),
            f"{done.longest[0]:.2f} ms {done.longest[1]}",
        )
    screen.print(table)


def _table(gauge: Gauge) -> Table:
    table = Table("verb", "calls", "median for its caller", "median in Redis", "longest")
    for name, cost in gauge.costs.items():
        table.add_row(
            name,
            str(len(cost.caller_ms)),
            f"{statistics.median(cost.caller_ms):.2f} ms",
            f"{statistics.median(cost.redis_ms):.2f} ms",
            f"{max(cost.redis_ms):.2f} ms",
        )
    return table


scale()
