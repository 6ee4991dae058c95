"""The status page: what `callbacks status` shows, for a browser. No scripts, one style sheet."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from html import escape
from importlib import resources
from typing import Final

from callbacks.batcher.inspector import TOTALS
from callbacks.monitor.health import NO_REDIS, Health
from callbacks.monitor.snapshot import Snapshot, facts, summary, worker_rows
from callbacks.text import moment

REFRESH_S: Final = 5
#: Not shown here, because it names a host.
_PRIVATE: Final = "lock"


@cache
def _style() -> str:
    return (resources.files("callbacks.web") / "style.css").read_text("utf-8")


def _policy() -> str:
    """Allow only the one style sheet (Content Security Policy, level 3)."""
    digest = base64.b64encode(hashlib.sha256(_style().encode()).digest()).decode()
    return f"default-src 'none'; style-src 'sha256-{digest}'; frame-ancestors 'none'"


POLICY: Final = _policy()


def status_page(shown: Snapshot) -> str:
    """The page for one snapshot."""
    o = shown.overview
    told = "".join(
        f"<tr><th scope=row>{escape(name)}<td>{escape(fact)}"
        for name, fact in facts(shown)
        if name != _PRIVATE
    )
    counted = "".join(
        f"<tr><th scope=row>{name}<td>{o.totals[name]:,}<td>{o.per_minute.get(name, 0):,}"
        for name in TOTALS
    )
    return _page(
        shown.health.word,
        f"{_told(shown.health)}<table>{told}</table>{_workers(shown)}"
        "<table class=counts><thead><tr><td><th scope=col>total<th scope=col>last minute</thead>"
        f"{counted}</table>"
        f"<p class=at>{moment(o.now_ms / 1000)}, refreshed every {REFRESH_S} s</p>",
    )


def away() -> str:
    """The page shown if Redis cannot be read."""
    return _page(NO_REDIS.word, _told(NO_REDIS))


def _told(health: Health) -> str:
    todo = f"<p>{escape(health.todo)}</p>" if health.todo else ""
    return f"<p class=health>{escape(str(health))}</p>{todo}"


def _workers(shown: Snapshot) -> str:
    """The worker processes, without hosts."""
    rows = "".join(
        f"<tr><th scope=row>{n}<td>{escape(version)}<td>{escape(busy)}<td>{running}"
        for n, (_, _, version, busy, running) in enumerate(
            worker_rows(shown.workers, shown.overview.now_ms), start=1
        )
    )
    head = (
        "<tr><th scope=col>worker<th scope=col>version<th scope=col>busy<th scope=col>running for"
    )
    listed = f"<table><thead>{head}</thead>{rows}</table>" if rows else ""
    return f"<p>workers: {escape(summary(shown.workers))}</p>{listed}"


def _page(word: str, inner: str) -> str:
    kind = word.replace(" ", "-")
    return (
        f'<!doctype html><html lang=en class="{kind}"><meta charset=utf-8>'
        '<meta name=viewport content="width=device-width">'
        f"<meta http-equiv=refresh content={REFRESH_S}>"
        f"<title>{escape(word)} · callbacks</title><style>{_style()}</style>"
        f"<body><h1>callbacks</h1><main>{inner}</main>"
    )
