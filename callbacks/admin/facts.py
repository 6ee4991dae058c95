"""What is told of a callback to people, in the command and in the console."""

from __future__ import annotations

from callbacks.admin.values import Story
from callbacks.request.urls import display_url
from callbacks.text import counted, many, when


def facts_of(story: Story, now_s: float) -> dict[str, str]:
    """The facts by their labels, in order, without id, state and destination, or what is unknown.

    `now_s`: seconds since 1970. Texts of the receiver are as they came.
    """
    one = story.status
    retries = counted(one.retries, "retry", "retries")
    crashes = counted(one.crashes, "crash", "crashes")
    facts = {
        "next": story.next,
        "reason": one.reason,
        "what to do": story.hint,
        "detail": one.detail,
        "it said": one.said,
        "URL": _url(story),
        "event": one.event,
        "environment": one.environment,
        "accepted": _when(one.created_at, now_s),
        "attempts": f"{one.attempts} ({retries} used, {crashes})",
        "expires": _when(one.expires_at, now_s),
        "ended": _when(one.ended_at, now_s),
        "body": None if story.body_bytes is None else many(story.body_bytes, "byte"),
    }
    return {name: fact for name, fact in facts.items() if fact}


def _url(story: Story) -> str | None:
    """Of what has ended and is not kept, only the start of the URL is known."""
    url = display_url(story.status.callback_url)
    return f"{url} (its path is no longer kept)" if url and story.body_bytes is None else url


def _when(at_s: float | None, now_s: float) -> str | None:
    return None if at_s is None else when(at_s, now_s)
