from __future__ import annotations

from datetime import UTC, datetime
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callbacks.delivery.faults import REASONS
from callbacks.model import Answer, Effect, Outcome, Reason
from callbacks.policy.outcome import (
    GROW,
    HINTS,
    SHRINK,
    Classification,
    classify,
    hint,
    parse_retry_after,
)

NOW_S = 1_800_000_000


def verdict_of(
    status: int | None = None, fault: Reason | None = None, **more: object
) -> Classification:
    answer = Answer(
        status, fault, **{k: more.pop(k) for k in ("retry_after", "duration") if k in more}
    )  # type: ignore[arg-type]
    return classify(answer, now_s=NOW_S, **more)  # type: ignore[arg-type]


def test_every_status_has_its_outcome_reason_and_effect() -> None:
    table = {
        range(100, 200): (Outcome.RETRY, Reason.PROTOCOL, Effect.FAULT),
        range(200, 300): (Outcome.SENT, None, Effect.OK),
        range(300, 400): (Outcome.DEAD, Reason.REDIRECT, Effect.ALIVE),
        range(400, 500): (Outcome.DEAD, Reason.CLIENT_ERROR, Effect.ALIVE),
        range(500, 600): (Outcome.RETRY, Reason.SERVER_ERROR, Effect.FAULT),
        range(600, 610): (Outcome.RETRY, Reason.PROTOCOL, Effect.FAULT),
    }
    special = {
        408: (Outcome.RETRY, Reason.CLIENT_ERROR, Effect.ALIVE),
        410: (Outcome.DEAD, Reason.GONE, Effect.ALIVE),
        425: (Outcome.RETRY, Reason.CLIENT_ERROR, Effect.ALIVE),
        429: (Outcome.RETRY, Reason.RATE_LIMITED, Effect.ALIVE),
    }
    for codes, expected in table.items():
        for code in codes:
            found = verdict_of(code)
            shape = (found.outcome, found.reason, found.feedback.effect)
            assert shape == special.get(code, expected), code


@pytest.mark.parametrize(
    ("fault", "effect", "transport", "factor"),
    [
        (Reason.TIMEOUT, Effect.FAULT, True, GROW),
        (Reason.CONNECT, Effect.FAULT, True, GROW),
        (Reason.DNS, Effect.FAULT, True, 1000),
        (Reason.TLS, Effect.FAULT, True, 1000),
        (Reason.RESET, Effect.FAULT, True, 1000),
        (Reason.PROTOCOL, Effect.FAULT, False, 1000),
        (Reason.TOO_LARGE, Effect.FAULT, False, 1000),
    ],
)
def test_every_fault_is_retried_and_says_something_of_its_destination(
    fault: Reason, effect: Effect, transport: bool, factor: int
) -> None:
    found = verdict_of(fault=fault)
    assert (found.outcome, found.reason) == (Outcome.RETRY, fault)
    feedback = found.feedback
    assert (feedback.effect, feedback.transport, feedback.factor) == (
        effect,
        transport,
        factor,
    )


def test_a_refused_address_is_the_end_and_says_nothing_of_its_destination() -> None:
    found = verdict_of(fault=Reason.BLOCKED_ADDRESS)
    assert (found.outcome, found.feedback.effect) == (Outcome.DEAD, Effect.NONE)


def test_an_answer_that_says_nothing_is_a_protocol_fault() -> None:
    assert verdict_of() == verdict_of(fault=Reason.PROTOCOL)


def test_only_prompt_successes_let_the_interval_shrink() -> None:
    assert verdict_of(200, duration=1.0).feedback.factor == SHRINK
    assert verdict_of(200, duration=1.001).feedback.factor == 1000


def test_other_client_errors_are_retried_where_that_is_asked_for_but_not_410() -> None:
    assert verdict_of(404, retry_client_errors=True).outcome is Outcome.RETRY
    assert verdict_of(410, retry_client_errors=True).outcome is Outcome.DEAD


def test_only_410_marks_its_url_gone() -> None:
    assert [code for code in range(100, 600) if verdict_of(code).feedback.gone] == [410]


def test_retry_after_counts_on_429_and_503_only() -> None:
    held = {code for code in range(100, 600) if verdict_of(code, retry_after="7").feedback.hold_ms}
    assert held == {429, 503}
    assert verdict_of(503, retry_after="7").throttled
    assert not verdict_of(503).throttled
    assert verdict_of(429).throttled
    assert verdict_of(429, retry_after="7").feedback.hold_ms == 7000
    assert verdict_of(503, retry_after="7").feedback.effect is Effect.ALIVE
    assert verdict_of(503).feedback.effect is Effect.FAULT


def date(offset_s: int) -> str:
    return format_datetime(datetime.fromtimestamp(NOW_S + offset_s, UTC), usegmt=True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, None),
        ("", None),
        ("0", 0),
        (" 7 ", 7),
        ("3600", 3600),
        ("3601", 3600),
        ("9" * 400, 3600),
        ("-1", None),
        ("1.5", None),
        ("+5", None),
        ("\u0667", None),  # a digit, but not one that HTTP allows
        ("soon", None),
        (date(90), 90),
        (date(-90), 0),
        (date(86_400), 3600),
        ("Wed, 31 Feb 2027 99:99:99 GMT", None),
        ("Fri, 31 Dec 99999 23:59:59 GMT", None),
    ],
)
def test_retry_after_is_read_as_seconds_or_a_date_within_its_cap(
    text: str | None, expected: float | None
) -> None:
    assert parse_retry_after(text, now_s=NOW_S, at_most_s=3600) == expected


@given(st.text(max_size=60))
def test_no_retry_after_raises_or_leaves_its_bounds(text: str) -> None:
    found = parse_retry_after(text, now_s=NOW_S, at_most_s=3600)
    assert found is None or 0 <= found <= 3600


def test_each_reason_of_an_exception_has_a_meaning_of_its_own() -> None:
    for reason in set(REASONS.values()):
        assert verdict_of(fault=reason).reason is reason


def test_there_is_a_hint_for_every_reason() -> None:
    assert set(HINTS) == set(Reason)


@pytest.mark.parametrize(
    ("status", "authorized", "words"),
    [
        (401, True, "although an Authorization header was sent"),
        (401, False, "no Authorization header was sent"),
        (401, None, "`callbacks show` says whether"),
        (403, True, "403: "),
        (404, None, "404: there is nothing at this URL"),
        (418, None, "the receiver refuses this request"),
        (None, None, "the receiver refuses this request"),
    ],
)
def test_a_hint_speaks_of_the_status_and_of_what_was_sent(
    status: int | None, authorized: bool | None, words: str
) -> None:
    assert words in (hint("client_error", status, authorized=authorized) or "")


def test_there_is_no_hint_for_a_reason_of_a_newer_release() -> None:
    assert hint("bored", 401) is None
