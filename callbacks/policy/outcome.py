"""What an answer means: one table of every status and fault, and a hint for each reason.

Pure. Anything unknown is a `protocol` fault, which is retried.
"""

from __future__ import annotations

from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from types import MappingProxyType
from typing import Final

from callbacks.model import Answer, Effect, Feedback, Outcome, Reason

#: A 2xx within this time shortens its destination's interval.
PROMPT_S: Final = 1.0
#: Thousandths: an interval shrinks by 1 % with each prompt success and grows by half with each
#: sign of overload. Shrinking by 5 % makes a rate-limited receiver refuse far too many requests.
SHRINK: Final = 990
GROW: Final = 1_500

HINTS: Final = MappingProxyType(
    {
        Reason.TIMEOUT: "no complete answer in time: is the receiver slow or overloaded?",
        Reason.CONNECT: "no connection: is the receiver up, and is its port open to us?",
        Reason.DNS: "the name does not resolve: is the host spelled correctly, and is its DNS up?",
        Reason.TLS: "TLS failed: is the certificate valid for this host, with its full chain?",
        Reason.RESET: "the connection broke before an answer: did the receiver crash or restart?",
        Reason.PROTOCOL: "the answer was not valid HTTP: is another service on that port?",
        Reason.TOO_LARGE: "the headers of the answer are too large: the receiver has to send fewer",
        Reason.BLOCKED_ADDRESS: "address not public: CALLBACKS_ALLOWED_NETWORKS may allow it",
        Reason.REDIRECT: "redirects are not followed: use the URL that it points to",
        Reason.GONE: "410: the URL accepts no more callbacks; `callbacks resume URL` clears it",
        Reason.RATE_LIMITED: "429: too many requests for the receiver; its destination slows down",
        Reason.CLIENT_ERROR: "the receiver refuses this request: right URL, right signing secret?",
        Reason.SERVER_ERROR: "the receiver failed: its own logs say why",
        Reason.EXPIRED: "it was not sent before it expired; its attempts say why, or if there are"
        " none, `callbacks destinations` and `callbacks status`",
        Reason.CRASHED: "our side failed while sending: see the workers' logs",
        Reason.CANCELLED: "cancelled by an operator or the application",
        Reason.NO_SECRET: "nothing is sent without a secret: CALLBACKS_SECRET_RESOLVER failed or"
        " returned none. It will be tried again",
    }
)


#: What some statuses say more exactly than their reason.
_STATUS_HINTS: Final = MappingProxyType(
    {
        400: "400: the receiver does not understand the request: does it expect this event?",
        403: "403: the receiver does not allow this: right URL and secret, or are we blocked?",
        404: "404: there is nothing at this URL: is it spelled correctly, was it removed?",
        405: "405: this URL takes no POST: is it the address of a page?",
        413: "413: the body is too large for the receiver",
        422: "422: the receiver does not accept this body: its answer may say why",
    }
)
_UNAUTHORIZED: Final = MappingProxyType(
    {
        True: "401 although an Authorization header was sent: is it still valid there?",
        False: "401, and no Authorization header was sent: does the receiver expect one, or another"
        " signing secret?",
        None: "401: the receiver wants other credentials: `callbacks show` says whether an"
        " Authorization header is sent; else it may expect another signing secret",
    }
)


def hint(reason: str, status: int | None = None, *, authorized: bool | None = None) -> str | None:
    """What to do about a stored reason; None for one that only a newer release knows.

    `authorized`: whether the request has an `Authorization` header, None if that is not known.
    """
    if reason not in set(Reason):
        return None
    if reason != Reason.CLIENT_ERROR:
        return HINTS[Reason(reason)]
    if status == 401:
        return _UNAUTHORIZED[authorized]
    return _STATUS_HINTS.get(status or 0, HINTS[Reason.CLIENT_ERROR])


@dataclass(frozen=True, slots=True)
class Classification:
    """What one answer means for the callback and for its destination.

    `throttled`: the receiver said "not now", which does not use up a retry. `denies`: it was a
    401, 403 or 404.
    """

    outcome: Outcome
    reason: Reason | None
    feedback: Feedback
    throttled: bool = False
    denies: bool = False


def _dead(reason: Reason, *, gone: bool = False) -> Classification:
    return Classification(Outcome.DEAD, reason, Feedback(Effect.ALIVE, gone=gone))


def _again(
    reason: Reason, effect: Effect, *, transport: bool = False, grow: bool = False
) -> Classification:
    feedback = Feedback(effect, transport=transport, factor=GROW if grow else 1_000)
    return Classification(Outcome.RETRY, reason, feedback)


_SENT: Final = Classification(Outcome.SENT, None, Feedback(Effect.OK))
_SENT_PROMPTLY: Final = Classification(Outcome.SENT, None, Feedback(Effect.OK, factor=SHRINK))
_NOT_NOW: Final = _again(Reason.CLIENT_ERROR, Effect.ALIVE)
_PROTOCOL: Final = _again(Reason.PROTOCOL, Effect.FAULT)
_DENIED: Final = Classification(
    Outcome.DEAD, Reason.CLIENT_ERROR, Feedback(Effect.ALIVE), denies=True
)

#: Statuses that differ from their class (RFC 9110 15.5.9, 15.5.11, 15.6.4; RFC 8470; RFC 6585).
_STATUSES: Final = {
    401: _DENIED,
    403: _DENIED,
    404: _DENIED,
    408: _NOT_NOW,
    410: _dead(Reason.GONE, gone=True),
    425: _NOT_NOW,
    429: _again(Reason.RATE_LIMITED, Effect.ALIVE, grow=True),
    503: _again(Reason.SERVER_ERROR, Effect.FAULT, grow=True),
}
_CLASSES: Final = {
    3: _dead(Reason.REDIRECT),
    4: _dead(Reason.CLIENT_ERROR),
    5: _again(Reason.SERVER_ERROR, Effect.FAULT),
}
_FAULTS: Final = {
    Reason.TIMEOUT: _again(Reason.TIMEOUT, Effect.FAULT, transport=True, grow=True),
    Reason.CONNECT: _again(Reason.CONNECT, Effect.FAULT, transport=True, grow=True),
    Reason.DNS: _again(Reason.DNS, Effect.FAULT, transport=True),
    Reason.TLS: _again(Reason.TLS, Effect.FAULT, transport=True),
    Reason.RESET: _again(Reason.RESET, Effect.FAULT, transport=True),
    Reason.PROTOCOL: _PROTOCOL,
    Reason.TOO_LARGE: _again(Reason.TOO_LARGE, Effect.FAULT),
    Reason.BLOCKED_ADDRESS: Classification(
        Outcome.DEAD, Reason.BLOCKED_ADDRESS, Feedback(Effect.NONE)
    ),
}


def classify(
    answer: Answer,
    *,
    now_s: float,
    retry_client_errors: bool = False,
    retry_after_max_s: float = 3_600,
) -> Classification:
    """Classify an answer.

    2xx is sent. 3xx, 410 and other 4xx are dead at once (other 4xx are retried with
    `retry_client_errors`). 408, 425, 429, 5xx and network faults are retried. `Retry-After` is
    used with 429 and 503, capped at `retry_after_max_s`. `no_secret` is not an attempt and must
    not be passed.
    """
    if answer.status is None:
        return _FAULTS.get(answer.fault or Reason.PROTOCOL, _PROTOCOL)
    if 200 <= answer.status <= 299:
        return _SENT_PROMPTLY if answer.duration <= PROMPT_S else _SENT
    if answer.status in {429, 503}:
        hold_s = parse_retry_after(answer.retry_after, now_s=now_s, at_most_s=retry_after_max_s)
        return _overload(answer.status, hold_s)
    classification = _STATUSES.get(answer.status) or _CLASSES.get(answer.status // 100, _PROTOCOL)
    if classification.reason is Reason.CLIENT_ERROR and retry_client_errors:
        return _NOT_NOW
    return classification


def _overload(status: int, hold_s: float | None) -> Classification:
    """Classify 429, and 503, which means "not now" only with `Retry-After`."""
    plain = _STATUSES[status]
    if status == 503 and hold_s is None:
        return plain
    hold_ms = round((hold_s or 0) * 1_000)
    feedback = Feedback(Effect.ALIVE, factor=GROW, hold_ms=hold_ms)
    return Classification(Outcome.RETRY, plain.reason, feedback, throttled=True)


def parse_retry_after(text: str | None, *, now_s: float, at_most_s: float) -> float | None:
    """Read `Retry-After` (RFC 9110 10.2.3: seconds, or a date) as seconds from now.

    The result is between 0 and `at_most_s`, or None if it cannot be parsed.
    """
    if text is None:
        return None
    text = text.strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:18]), at_most_s)
    try:
        moment = parsedate_to_datetime(text)
        if moment.tzinfo is None:
            return None
        return min(max(0.0, moment.timestamp() - now_s), at_most_s)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
