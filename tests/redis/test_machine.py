from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.redis.bench import Bench, Mutant
from tests.redis.machine import Machine
from tests.redis.mutants import MUTANTS
from tests.redis.sharded import ShardedMachine
from tests.support.server import Server, binaries

SLOW = pytest.mark.slow

#: Failing examples are not shrunk: that takes minutes. To shrink one, add `Phase.shrink`.
SETTINGS = settings(
    max_examples=40,
    stateful_step_count=30,
    deadline=None,
    database=None,
    phases=(Phase.generate,),
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)
#: How often 40 examples are tried before a defect counts as unnoticed.
TRIES = 10


def machine(client: redis.Redis, mutant: Mutant | None = None) -> type[Machine]:
    given = {"bench": Bench(client, mutant), "audits": mutant is None}
    return type("BoundMachine", (Machine,), given)


@pytest.fixture(scope="module")
def one_client() -> Iterator[redis.Redis]:
    server = Server(binaries()["valkey"]).start()
    with server.client() as client:
        yield client
    server.stop()


@pytest.mark.parametrize("number", [0, pytest.param(1, marks=SLOW), pytest.param(2, marks=SLOW)])
def test_any_sequence_of_calls_keeps_the_balance_and_ends_every_callback(
    client: redis.Redis, number: int, request: pytest.FixtureRequest
) -> None:
    examples = request.config.getoption("examples")
    more = settings(SETTINGS, max_examples=examples, stateful_step_count=50)
    run_state_machine_as_test(seed(number)(machine(client)), settings=more)


@pytest.mark.parametrize("number", [0, pytest.param(1, marks=SLOW)])
def test_several_shards_keep_their_balance_without_touching_each_other(
    client: redis.Redis, number: int, request: pytest.FixtureRequest
) -> None:
    examples = request.config.getoption("examples") // 2
    more = settings(SETTINGS, max_examples=examples, stateful_step_count=60)
    bound = type("BoundMachine", (ShardedMachine,), {"bench": Bench(client)})
    run_state_machine_as_test(seed(number)(bound), settings=more)


@pytest.mark.parametrize("name", MUTANTS)
def test_the_machine_notices(name: str, one_client: redis.Redis) -> None:
    mutant = MUTANTS[name]
    broken = machine(one_client, mutant)
    assert any(notices(broken, number) for number in range(mutant.seed, mutant.seed + TRIES))


def notices(broken: type[Machine], number: int) -> bool:
    try:
        run_state_machine_as_test(seed(number)(broken), settings=SETTINGS)
    except AssertionError:
        return True
    return False
