"""Sends one POST and returns an `Answer` within the deadline."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final, cast

from requests import PreparedRequest
from requests.exceptions import InvalidHeader

from callbacks.delivery.adapter import START_BYTES, GuardedAdapter
from callbacks.delivery.faults import detail_of, reason_of
from callbacks.delivery.reply import Reply
from callbacks.model import Answer

_MAX_RETRY_AFTER_CHARS: Final = 100


class Transport:
    """Posts through an adapter without a session; thread-safe.

    A session would rewrite the URL, keep cookies and follow redirects, but only the status and
    `Retry-After` of an answer count. What a failure says is kept, unredacted: it may repeat what
    was sent.
    """

    def __init__(self, adapter: GuardedAdapter) -> None:
        self.adapter = adapter

    def post(
        self,
        url: str,
        headers: Mapping[str, str],
        body: bytes,
        *,
        spent_s: float = 0,
        proven: bool = False,
    ) -> Answer:
        """Send one request and return its answer; `spent_s` of the deadline is already used.

        `proven`: the name lookup does not queue behind those of receivers that hang. Every fault
        of the receiver, the network or the URL is an Answer, whose duration ends with the reply's
        head. Only the caller's mistakes (invalid headers, a body that is not bytes) are raised.
        """
        if not isinstance(body, bytes):
            raise TypeError(f"body is {type(body).__name__}, expected bytes")
        limits = self.adapter.limits(spent_s=spent_s)
        watch = limits.watch
        try:
            reply = self.adapter.exchange(_prepared(url, headers, body), limits, proven=proven)
        except InvalidHeader:
            raise
        except Exception as error:  # noqa: BLE001 -- its class is looked up, see REASONS
            ended = time.monotonic()
            return Answer(
                status=None,
                fault=reason_of(error),
                detail=detail_of(error),
                duration=_whole_ms(ended - watch.began),
                steps=watch.steps(ended),
            )
        return Answer(
            status=reply.status,
            fault=None,
            retry_after=_printable(reply.first("retry-after")),
            said=_said(reply) if reply.status >= 300 else "",
            duration=_whole_ms(reply.came_at - watch.began),
            steps=watch.steps(reply.came_at),
        )

    def close(self) -> None:
        """Close idle connections now, and those in use once their request ends."""
        self.adapter.close()


def _prepared(url: str, headers: Mapping[str, str], body: bytes) -> PreparedRequest:
    """The request as stored: `prepare` would rewrite the URL and take a fifth of the CPU time."""
    request = PreparedRequest()
    request.method, request.url, request.body = "POST", url, body
    request.headers = cast(Any, headers)
    return request


def _printable(text: str | None) -> str | None:
    if text is None:
        return None
    return "".join(char for char in text[:_MAX_RETRY_AFTER_CHARS] if char.isprintable())


def _said(reply: Reply) -> str:
    """The start of the body as text; none if it is encoded although it must not be."""
    if reply.first("content-encoding") not in {None, "identity"}:
        return ""
    return reply.body[:START_BYTES].decode(errors="replace")


def _whole_ms(seconds: float) -> float:
    """Seconds, of whole milliseconds."""
    return round(seconds, 3)
