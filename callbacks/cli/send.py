"""`callbacks send`: sends one test callback at once, past the queue."""

from __future__ import annotations

import time
from http import HTTPStatus
from typing import Any

import click

from callbacks.cli.command import Failure, json_option, parts, print_json, say
from callbacks.delivery.callback import AICallback
from callbacks.delivery.trace import Trace, TracingSender
from callbacks.model import Answer, Outcome, Reason, Steps
from callbacks.policy.outcome import classify, hint
from callbacks.request.urls import display_url
from callbacks.units import ms


@click.command()
@click.argument("url")
@json_option
def send(url: str, as_json: bool) -> None:
    """Send one signed test callback to URL now, past the queue.

    Its event is "ping". Prints the request, what the guard says of the host's addresses, the
    answer, what the receiver said if it failed, and how long each step took. Needs no Redis and
    stores nothing; exits with 1 if the answer is no 2xx.
    """
    settings = parts().settings
    callback = AICallback(url, {"sent_by": "callbacks send"}, event="ping", settings=settings)
    sender = TracingSender(settings)
    answer = callback.send(sender=sender)
    reason = _reason(answer, retry_client_errors=settings.retry_client_errors)
    if as_json:
        print_json(_document(callback, sender.trace, answer, reason))
    else:
        _print(callback, sender.trace, answer)
    if reason:
        raise Failure(f"{reason}: {_hint(reason, answer)}")


def _hint(reason: Reason, answer: Answer) -> str | None:
    """What to do; a test callback has no headers of the caller's own."""
    return hint(reason, answer.status, authorized=False)


def _reason(answer: Answer, *, retry_client_errors: bool) -> Reason | None:
    """Why it failed; None if it was sent."""
    if answer.fault is Reason.NO_SECRET:
        return Reason.NO_SECRET
    told = classify(answer, now_s=time.time(), retry_client_errors=retry_client_errors)
    return None if told.outcome is Outcome.SENT else told.reason


def _document(
    callback: AICallback, trace: Trace, answer: Answer, reason: Reason | None
) -> dict[str, Any]:
    return {
        "id": callback.id,
        "url": display_url(callback.request.callback_url),
        "headers": trace.headers,
        "body": callback.request.body.decode(),
        "signed": "webhook-signature" in trace.headers,
        "addresses": trace.verdicts,
        "connected": trace.connected,
        "status": answer.status,
        "reason": reason,
        "hint": reason and _hint(reason, answer),
        "detail": answer.detail,
        "said": answer.said,
        "reply_headers": trace.reply_headers,
        **_steps(trace, answer),
        "duration": answer.duration,
    }


def _steps(trace: Trace, answer: Answer) -> dict[str, float | None]:
    """How long each step took, in seconds; None for one that it did not come to."""
    took = answer.steps or Steps()
    is_tls = trace.url.startswith("https:")
    reached = bool(trace.connected)
    return {
        "lookup": took.lookup if trace.looked_up else None,
        "connect": took.connect if trace.tried else None,
        "tls": took.tls if reached and is_tls else None,
        "request": took.request if reached else None,
        "answer": took.answer if reached else None,
    }


def _print(callback: AICallback, trace: Trace, answer: Answer) -> None:
    _print_request(callback, trace)
    for address, verdict in trace.verdicts.items():
        say(f"guard: {address}: {verdict}")
    say(f"answer: {_answer(answer)}")
    for name, values in trace.reply_headers.items():
        for value in values:
            say(f"  {name}: {value}")
    if answer.said:
        say(f"it said: {answer.said}")
    say(f"time: {_times(trace, answer)}")


def _print_request(callback: AICallback, trace: Trace) -> None:
    say(f"POST {display_url(callback.request.callback_url)}")
    for name, value in trace.headers.items():
        say(f"  {name}: {value}")
    if trace.headers and "webhook-signature" not in trace.headers:
        say("  (not signed: there is no CALLBACKS_SECRET)")
    say(f"  {callback.request.body.decode()}")


def _answer(answer: Answer) -> str:
    if answer.status is None:
        return f"none, {answer.fault}" + (f": {answer.detail}" if answer.detail else "")
    phrases = {each.value: each.phrase for each in HTTPStatus}
    return f"{answer.status} {phrases.get(answer.status, '')}".rstrip()


def _times(trace: Trace, answer: Answer) -> str:
    """Each step that there was, and the whole."""
    steps = _steps(trace, answer).items()
    told = [f"{name} {ms(took):,} ms" for name, took in steps if took is not None]
    return ", ".join([*told, f"{ms(answer.duration):,} ms in all"])
