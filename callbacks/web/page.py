"""The status page: what `callbacks status` shows, for a browser. No scripts, one style sheet."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from html import escape
from importlib import resources
from typing import Final

from callbacks.batcher.inspector import TOTALS
from callbacks.monitor.snapshot import Snapshot, facts
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
        f"<p class=health>{escape(str(shown.health))}</p>"
        f"<table>{told}</table>"
        "<table class=counts><thead><tr><td><th scope=col>total<th scope=col>last minute</thead>"
        f"{counted}</table>"
        f"<p class=at>{moment(o.now_ms / 1000)}, refreshed every {REFRESH_S} s</p>",
    )


def away() -> str:
    """The page shown if Redis cannot be read."""
    return _page(
        "no Redis",
        "<p class=health>no Redis: it cannot be read; the log of this process says why</p>",
    )


def _page(word: str, inner: str) -> str:
    kind = word.replace(" ", "-")
    return (
        f'<!doctype html><html lang=en class="{kind}"><meta charset=utf-8>'
        '<meta name=viewport content="width=device-width">'
        f"<meta http-equiv=refresh content={REFRESH_S}>"
        f"<title>{escape(word)} · callbacks</title><style>{_style()}</style>"
        f"<body><h1>callbacks</h1><main>{inner}</main>"
    )
