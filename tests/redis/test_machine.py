from __future__ import annotations

import redis
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.redis.bench import Bench, Mutant
from tests.redis.machine import Machine

QUICK = settings(
    max_examples=40,
    stateful_step_count=50,
    deadline=None,
    derandomize=True,
    database=None,
    phases=(Phase.generate,),
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)


def machine(client: redis.Redis, mutant: Mutant | None = None) -> type[Machine]:
    return type("BoundMachine", (Machine,), {"bench": Bench(client, mutant)})


def test_any_sequence_of_calls_keeps_the_books_and_ends_every_callback(
    client: redis.Redis,
) -> None:
    run_state_machine_as_test(machine(client), settings=QUICK)
