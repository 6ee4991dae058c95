"""`callbacks send`: sends one test callback at once, past the queue."""

from __future__ import annotations

import time
from http import HTTPStatus
from typing import Any

import click

from callbacks.cli.command import Failure, json_option, parts, print_json, say
from callbacks.delivery.callback import AICallback
from callbacks.delivery.trace import Trace, TracingSender
from callbacks.model import Answer, Outcome, Reason
from callbacks.policy.outcome import HINTS, classify
from callbacks.request.urls import display_url
from callbacks.units import ms


@click.command()
@click.argument("url")
@json_option
def send(url: str, as_json: bool) -> None:
    """Send one signed test callback to URL now, past the queue.

    Its event is "ping". Prints the request, what the guard says of the host's addresses, the
    answer and how long each step took. Needs no Redis and stores nothing; exits with 1 if the
    answer is no 2xx.
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
        raise Failure(f"{reason}: {HINTS[reason]}")


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
        "detail": answer.detail,
        "reply_headers": trace.reply_headers,
        "lookup": None if trace.lookup_ms is None else trace.lookup_ms / 1000,
        "connect": None if trace.connect_ms is None else trace.connect_ms / 1000,
        "duration": answer.duration,
    }


def _print(callback: AICallback, trace: Trace, answer: Answer) -> None:
    _print_request(callback, trace)
    for address, verdict in trace.verdicts.items():
        say(f"guard: {address}: {verdict}")
    say(f"answer: {_answer(answer)}")
    for name, values in trace.reply_headers.items():
        for value in values:
            say(f"  {name}: {value}")
    is_tls = callback.request.callback_url.startswith("https:")
    say(f"time: {_times(trace, answer, is_tls=is_tls)}")


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


def _times(trace: Trace, answer: Answer, *, is_tls: bool) -> str:
    """Each step that there was, and the whole."""
    steps = {"lookup": trace.lookup_ms, "connect": trace.connect_ms}
    known = {name: took for name, took in steps.items() if took is not None}
    if trace.connected:
        rest = "TLS and answer" if is_tls else "answer"
        known[rest] = ms(answer.duration) - sum(known.values())
    told = [f"{name} {took:,} ms" for name, took in known.items()]
    return ", ".join([*told, f"{ms(answer.duration):,} ms in all"])
