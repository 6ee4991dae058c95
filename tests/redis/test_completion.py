"""What the shell completes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from click.shell_completion import ShellComplete

from callbacks import enqueue_many
from callbacks.batcher.store import Batcher
from callbacks.cli.main import main
from callbacks.model import Outcome
from tests.redis.support import HOST, begin, claim, put, settle


def completed(*words: str) -> list[str]:
    """What the shell offers for the last of these words."""
    shell = ShellComplete(main, {}, "callbacks", "_CALLBACKS_COMPLETE")
    *args, incomplete = words
    return [item.value for item in shell.get_completions(list(args), incomplete)]


@pytest.fixture
def callbacks(environment: Callable[..., None], make_batcher: Callable[..., Batcher]) -> Batcher:
    """One callback in each state."""
    pace = {"send_interval": 0, "destination_interval": 0, "min_interval": 0}
    batcher = make_batcher(**pace)
    for id, outcome in (("dead-1", Outcome.DEAD), ("sent-1", Outcome.SENT)):
        put(batcher, id)
        (claimed,) = claim(batcher).callbacks
        begin(batcher, claimed)
        settle(batcher, claimed, outcome)
    put(batcher, "claimed-1")
    claim(batcher)
    put(batcher, "queued-1", f"{HOST}#lane", delay_ms=60_000)
    put(batcher, "cancelled-1")
    batcher.cancel("cancelled-1")
    return batcher


def test_commands_and_options_are_completed(environment: Callable[..., None]) -> None:
    assert completed("dea") == ["dead"]
    assert completed("dead", "re") == ["replay"]
    assert "--destination" in completed("list", "dead", "--d")
    assert completed("list", "d") == ["dead"]


def test_ids_are_completed_that_the_command_can_take(callbacks: Batcher) -> None:
    every = {"dead-1", "sent-1", "claimed-1", "queued-1", "cancelled-1"}
    assert set(completed("show", "")) == every
    assert completed("show", "sent") == ["sent-1"]
    assert set(completed("cancel", "")) == {"claimed-1", "queued-1"}
    assert completed("dead", "replay", "--id", "") == ["dead-1"]
    assert completed("enqueue", "https://a.example/", "--id", "") == []


def test_destinations_are_completed_with_their_lanes(callbacks: Batcher) -> None:
    assert set(completed("pause", "https://")) == {HOST, f"{HOST}#lane"}
    assert completed("resume", f"{HOST}#") == [f"{HOST}#lane"]
    assert completed("list", "queued", "--destination", "http:") == []
    callbacks.pause(f"{HOST}#*")
    assert set(completed("pause", "")) == {HOST, f"{HOST}#lane"}


def test_what_is_in_any_shard_is_completed(environment: Callable[..., None]) -> None:
    environment(CALLBACKS_SHARDS=4)
    hosts = [f"https://{letter}.example" for letter in "abcdefgh"]
    enqueue_many([{"callback_url": host, "data": 1, "id": host[8]} for host in hosts])
    assert set(completed("show", "")) == set("abcdefgh")
    assert set(completed("pause", "")) == {f"{host}:443" for host in hosts}


def test_without_redis_or_with_a_bad_setting_nothing_is_completed(
    environment: Callable[..., None],
) -> None:
    environment(REDIS_URL="redis://127.0.0.1:1/0")
    assert completed("show", "") == []
    environment(CALLBACKS_BATCH_SIZE="many")
    assert completed("pause", "") == []
