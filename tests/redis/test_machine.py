from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.redis.bench import Bench, Mutant
from tests.redis.machine import Machine
from tests.redis.mutants import MUTANTS
from tests.support.server import Server, binaries

#: What is found is not made small: that takes minutes. To search on or to shrink, run
#: `hypothesis.seed(n)(machine(client))` by hand, with more examples, without `derandomize`,
#: and with `Phase.shrink`.
QUICK = settings(
    max_examples=200,
    stateful_step_count=50,
    deadline=None,
    derandomize=True,
    database=None,
    phases=(Phase.generate,),
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)


def machine(client: redis.Redis, mutant: Mutant | None = None) -> type[Machine]:
    given = {"bench": Bench(client, mutant), "audits": mutant is None}
    return type("BoundMachine", (Machine,), given)


@pytest.fixture(scope="module")
def one_client() -> Iterator[redis.Redis]:
    server = Server(binaries()["valkey"]).start()
    with server.client() as client:
        yield client
    server.stop()


def test_any_sequence_of_calls_keeps_the_books_and_ends_every_callback(
    client: redis.Redis,
) -> None:
    run_state_machine_as_test(machine(client), settings=settings(QUICK, max_examples=60))


@pytest.mark.parametrize("name", MUTANTS)
def test_the_machine_notices(name: str, one_client: redis.Redis) -> None:
    broken = machine(one_client, MUTANTS[name])
    with pytest.raises(AssertionError):
        run_state_machine_as_test(broken, settings=settings(QUICK, stateful_step_count=30))
