"""What everybody may see: the health check, the metrics, and a page of numbers and charts.

No ids, URLs, destinations or hosts are among them. So `callbacks web` may be publicly reachable,
as the `web` process on Heroku is.
"""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any, Final

import redis
from flask import Blueprint, Response, make_response, render_template, request

from callbacks import admin
from callbacks.batcher.inspector import TOTALS
from callbacks.monitor.health import WELL, Health, no_redis
from callbacks.monitor.metrics import exposition
from callbacks.monitor.snapshot import Snapshot, facts, summary, worker_rows
from callbacks.web.charts import Chart, charts_of
from callbacks.web.login import LIVE, is_signed_in
from callbacks.web.readings import Reading
from callbacks.web.source import source

pages: Final = Blueprint("public", __name__)

#: Not shown to everybody, because they name hosts.
_PRIVATE: Final = frozenset({"lock"})
_TONES: Final = {"ok": "good", "scheduler away": "warn", "paused": "warn", "behind": "warn"}


#: Destinations in trouble, and acts of people, on the first page.
_TROUBLED: Final = 10
_ACTS: Final = 10
#: How often a page asks for its changing part.
EVERY_S: Final = 2


def is_live() -> bool:
    """Whether the changing part of a page is asked for alone."""
    return LIVE in request.headers


def told(health: Health) -> dict[str, Any]:
    """The health as a banner."""
    return {"health": health, "tone": _TONES.get(health.word, "bad")}


def show(
    template: str, *readings: Reading[Any], every_s: int = EVERY_S, **values: object
) -> Response:
    """Render a page, or its changing part; 503 where something of it is from before an outage.

    It asks for its changing part again every `every_s`.
    """
    old = max((one.age_s for one in readings if one.old), default=None)
    error = next((one.error for one in readings if one.old), None)
    why = no_redis(error)
    page = render_template(template, old_s=old, no_redis=why, every_s=every_s, **values)
    response = make_response(page)
    if old is not None:
        response.status_code = 503
    if is_live():
        response.headers[LIVE] = str(every_s)
    return response


def away(error: redis.RedisError, *, is_act: bool = False) -> Response:
    """The page where Redis cannot be read and there is nothing from before.

    `is_act`: something was to be done, which may have been done before Redis fell silent.
    """
    page = render_template("away.html", is_act=is_act, **told(no_redis(error)))
    response = make_response(page, 503)
    if is_live():
        response.headers[LIVE] = str(EVERY_S)
    return response


@pages.get("/")
def overview() -> Response:
    """The page of numbers; for those who are signed in, also of names."""
    shown = source().snapshot()
    private = is_signed_in()
    snapshot = shown.value
    health = no_redis(shown.error) if shown.old else snapshot.health
    return show(
        "overview.html",
        shown,
        snapshot=snapshot,
        facts=[(name, fact) for name, fact in facts(snapshot) if private or name not in _PRIVATE],
        totals=[
            (name, snapshot.overview.totals[name], snapshot.overview.per_minute.get(name, 0))
            for name in TOTALS
        ],
        workers=worker_rows(snapshot.workers, snapshot.overview.now_ms),
        worker_summary=summary(snapshot.workers),
        private=private,
        trouble=snapshot.trouble[:_TROUBLED],
        **_charts(),
        **told(health),
        **(_private() if private else {}),
    )


def _private() -> dict[str, Any]:
    """What only those see who are signed in."""
    acts = source().of("acts", lambda: admin.log(limit=_ACTS))
    return {"acts": acts.value.items, "paused": source().snapshot().value.overview.paused_by}


def _charts() -> dict[str, Any]:
    """The charts of the span that was asked for; none while Redis is away and was never read."""
    span = "day" if request.args.get("span") == "day" else "hour"
    drawn: list[Chart] = []
    with suppress(redis.RedisError):
        history = source().history().value
        drawn = charts_of(history.day if span == "day" else history.hour)
    return {"span": span, "charts": drawn}


@pages.get("/healthz")
def healthz() -> Response:
    """Health as JSON: 200 if work goes on or is paused, else 503."""
    found = _health()
    document = {"health": found.word, "reason": found.reason, "todo": found.todo}
    status = 200 if found.word in WELL else 503
    return Response(json.dumps(document) + "\n", status, content_type="application/json")


@pages.get("/metrics")
def metrics() -> Response:
    """The metrics for Prometheus; if Redis cannot be read, health alone."""
    found = _fresh()
    content_type, text = exposition(found if isinstance(found, Snapshot) else None)
    return Response(text, content_type=content_type)


def _fresh() -> Snapshot | redis.RedisError:
    """The snapshot, or why Redis cannot be read."""
    try:
        found = source().snapshot()
    except redis.RedisError as error:
        return error
    return found.error or found.value


def _health() -> Health:
    found = _fresh()
    return found.health if isinstance(found, Snapshot) else no_redis(found)
