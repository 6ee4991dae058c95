"""How verbs are called: by their hash, and by their text if Redis has forgotten them."""

from __future__ import annotations

from typing import Any

import pytest
import redis
from redis.exceptions import NoScriptError

from callbacks.batcher.store import Batcher
from callbacks.model import Stored
from tests.redis.support import HOST, HOUR_MS, packed, put


def item(id: str) -> tuple[str, str, bytes, int, int]:
    return id, HOST, packed(), 0, HOUR_MS


def test_a_flush_before_every_single_command_is_not_noticed(
    batcher: Batcher, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline, sent = batcher.scripts._pipeline, []
    call = pipeline.call

    def flush_first(*command: Any) -> Any:
        client.script_flush()
        sent.append(command[0])
        return call(*command)

    monkeypatch.setattr(pipeline, "call", flush_first)
    assert put(batcher, "c-1").accepted
    assert batcher.look().queued == 1
    assert sent == ["EVALSHA", "EVAL"] * 2
    assert client.zcard("{callbacks}:expiry") == 1


def test_a_pipeline_whose_scripts_are_flushed_still_does_everything_once(
    batcher: Batcher, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(batcher, "c-0")
    pipeline, flushes = batcher.scripts._pipeline, []
    stream = pipeline.stream

    def flush_first(*args: Any, **options: Any) -> Any:
        if len(flushes) < 3:
            flushes.append(client.script_flush())
        return stream(*args, **options)

    monkeypatch.setattr(pipeline, "stream", flush_first)
    stored = batcher.enqueue_many([item(f"m-{n}") for n in range(20)])
    assert [isinstance(reply, Stored) and reply.accepted for reply in stored] == [True] * 20
    assert client.zcard("{callbacks}:expiry") == 21
    assert not any(isinstance(reply, NoScriptError) for reply in stored)
