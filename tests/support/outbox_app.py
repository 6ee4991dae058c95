"""An application that is killed around its commits.

`python -m tests.support.outbox_app URL N SEED`: N times it is forked anew, commits orders, each
with a callback in the outbox, and gets SIGKILL at a random moment. Prints JSON: the orders that it
began, and those of whose commit it knew.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from typing import NoReturn

from sqlalchemy import Connection, Engine, create_engine, text
from sqlalchemy.pool import NullPool

from callbacks import outbox

#: As many transactions as one child makes at most; it is mostly killed in the first or second.
_MOST = 50


def _buy(connection: Connection, order: str) -> None:
    """What one transaction writes."""
    connection.execute(text("INSERT INTO orders (id) VALUES (:id)"), {"id": order})
    outbox.add(connection, "https://customer.example/hooks", {"order": order}, id=order)


def _work(engine: Engine, life: int, most: int, tell: Callable[[str], object]) -> None:
    with engine.connect() as connection:
        for n in range(most):
            order = f"o-{life}-{n}"
            tell(f"begins {order}\n")
            with connection.begin():
                _buy(connection, order)
            tell(f"committed {order}\n")


def _child(engine: Engine, life: int, tell: int) -> NoReturn:
    _work(engine, life, _MOST, lambda line: os.write(tell, line.encode()))
    os._exit(0)


def _live(engine: Engine, life: int, wait_s: float) -> list[str]:
    """Fork the application, kill it `wait_s` after its first transaction began; what it told."""
    hear, tell = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(hear)
        _child(engine, life, tell)
    os.close(tell)
    with os.fdopen(hear, "rb", buffering=0) as said:
        told = said.read(100) or b""  # it is connected, and begins
        time.sleep(wait_s)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        while piece := said.read(65_536):
            told += piece
    return told.decode().splitlines()


def main(url: str, lives: int, seed: int) -> None:
    """Have it killed so often, in or after its first transactions."""
    engine = create_engine(url, poolclass=NullPool)
    told: list[str] = []
    _work(engine, 0, 1, told.append)  # loads everything, for all who are forked
    chance = random.Random(seed)
    longest_s = 0.01
    for life in range(1, lives + 1):
        lines = _live(engine, life, chance.uniform(0, longest_s))
        assert lines, "the application did not start"
        told += lines
        longest_s *= 1.1 if len(lines) < 3 else 0.9  # as fast as this machine is now
    orders: dict[str, list[str]] = {"begins": [], "committed": []}
    for line in told:
        what, order = line.split()
        orders[what].append(order)
    sys.stdout.write(json.dumps(orders))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
