"""The metrics of a real scrape by Prometheus' rules, and what the alerts and the dashboard ask for.

`promtool` is used where it is installed (Debian: in the package prometheus).
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from callbacks.batcher.inspector import TOTALS
from callbacks.batcher.store import Batcher
from callbacks.model import Outcome
from callbacks.monitor.metrics import exposition
from callbacks.monitor.snapshot import take
from tests.redis.support import begin, claim_one, key, settle

DOCS = Path(__file__).parents[2] / "docs"
METRICS = (DOCS / "metrics.md").read_text("utf-8")
ALERTS = (DOCS / "alerts.yml").read_text("utf-8")
ALERT_TESTS = (DOCS / "alerts.test.yml").read_text("utf-8")
DASHBOARD: dict[str, Any] = json.loads((DOCS / "dashboard.json").read_text("utf-8"))
#: Labels with a fixed set of values each, except the version.
LABELS = {"outcome", "reason", "status_class", "state", "version", "le"}
#: Labels that Prometheus adds.
TARGET = {"job", "instance"}

has_promtool = shutil.which("promtool") is not None
with_promtool = pytest.mark.skipif(not has_promtool, reason="promtool is not installed")


@pytest.fixture
def scrape(batcher: Batcher) -> str:
    """A scrape with every metric, also those that are there only after something happened."""
    claimed = claim_one(batcher)
    begin(batcher, claimed)
    settle(batcher, claimed, Outcome.SENT, status=200, duration_ms=5, delivery_ms=50)
    batcher.tick("w", 1_000, threads=8, places=4)
    batcher.scheduled()
    batcher.scripts.client.hset(key("state"), "lost", 1_700_000_000_000)
    return exposition(take(batcher))[1].decode()


def promtool(*words: str, given: str = "") -> None:
    done = subprocess.run(
        [str(shutil.which("promtool")), *words],
        input=given,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr


def expressions(panels: list[dict[str, Any]]) -> Iterator[str]:
    for panel in panels:
        for target in panel["targets"]:
            yield target["expr"]


def queries() -> list[str]:
    """All expressions of the alerts and of the dashboard."""
    of_alerts = re.findall(r"^ {8}expr: (?:>-\n)?((?:.|\n {10})+)", ALERTS, re.MULTILINE)
    assert len(of_alerts) == len(alerts())
    return [*of_alerts, *expressions(DASHBOARD["panels"])]


def alerts() -> list[str]:
    return re.findall(r"^ +- alert: (\w+)$", ALERTS, re.MULTILINE)


# Metrics


def test_every_metric_has_a_type_a_help_and_a_name_by_the_rules(scrape: str) -> None:
    families = list(text_string_to_metric_families(scrape))
    assert len(families) > 40
    for family in families:
        assert re.fullmatch(r"callbacks_[a-z_]+", family.name), family
        assert family.documentation, family.name
        assert family.type in {"counter", "gauge", "histogram"}, family.name
        assert not re.search(r"_(ms|milliseconds|minutes|kb|mb|count|sum|bucket)$", family.name)
        for sample in family.samples:
            assert set(sample.labels) <= LABELS, sample
            if family.type == "counter":
                assert sample.name.endswith("_total"), sample
    names = re.findall(r"^# TYPE (\S+)", scrape, re.MULTILINE)
    assert len(names) == len(set(names))


@with_promtool
def test_promtool_finds_nothing_wrong_with_the_metrics(scrape: str) -> None:
    promtool("check", "metrics", given=scrape)


def test_without_redis_the_metrics_are_by_the_rules_too() -> None:
    if has_promtool:
        promtool("check", "metrics", given=exposition(None)[1].decode())
    assert b'callbacks_health{state="no redis"} 1.0' in exposition(None)[1]


def test_every_metric_is_on_the_page_of_metrics(scrape: str) -> None:
    totals = {f"callbacks_{name}_total" for name in TOTALS if name != "attempts"}
    names = set(re.findall(r"^# TYPE (\S+)", scrape, re.MULTILINE))
    described = set(re.findall(r"`(callbacks_\w+)[`{]", METRICS))
    assert names - totals <= described
    assert described <= names


# Alerts and dashboard


def test_no_query_names_a_metric_or_a_label_that_does_not_exist(scrape: str) -> None:
    samples = [s for f in text_string_to_metric_families(scrape) for s in f.samples]
    known = {sample.name for sample in samples}
    values = {pair for sample in samples for pair in sample.labels.items()}
    named = set()
    for query in queries():
        named |= set(re.findall(r"callbacks_\w+", query))
        for label, operator, value in re.findall(r'(\w+)(=~|=|!=)"([^"]*)"', query):
            if label not in TARGET:
                wanted = value.split("|") if operator == "=~" else [value]
                assert {(label, each) for each in wanted} <= values, query
    assert named <= known
    gauges = {s.name for f in text_string_to_metric_families(scrape) for s in f.samples}
    assert {"callbacks_health", "callbacks_attempts_total"} <= named & gauges


def test_every_alert_has_a_severity_a_summary_and_a_remedy_and_is_tested() -> None:
    assert len(alerts()) == len(set(alerts()))
    assert set(re.findall(r'alertname="(\w+)"', ALERT_TESTS)) == set(alerts())
    for rule in ALERTS.split("- alert: ")[1:]:
        assert re.search(r"severity: (page|ticket)$", rule, re.MULTILINE), rule
        assert "summary: " in rule, rule
        assert "todo: " in rule, rule


@with_promtool
def test_the_alerts_fire_when_they_should_and_not_before() -> None:
    promtool("check", "rules", str(DOCS / "alerts.yml"))
    promtool("test", "rules", str(DOCS / "alerts.test.yml"))


def test_the_panels_of_the_dashboard_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(at["x"] + dx, at["y"] + dy) for dx in range(at["w"]) for dy in range(at["h"])}
        assert not cells & taken, panel["title"]
        assert all(x < 24 for x, _ in cells), panel["title"]
        taken |= cells
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
