"""The console: destinations, dead letters, callbacks, workers and the journal, for those signed in.

It shows and does what `callbacks.admin` does; every act leaves an entry in the journal.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from flask import Blueprint, current_app, flash, make_response, redirect, render_template, request
from flask import url_for as address_of
from werkzeug.exceptions import NotFound
from werkzeug.wrappers import Response

from callbacks import admin
from callbacks.admin.dead import Progress
from callbacks.admin.facts import facts_of
from callbacks.admin.looking import read_story
from callbacks.admin.values import Destination
from callbacks.batcher.inspector import Attempt, Inspector, Status
from callbacks.model import InvalidCallback, Reason, Request, State
from callbacks.monitor.snapshot import facts, summary, worker_rows
from callbacks.monitor.story import state_of
from callbacks.request.freeze import check_id
from callbacks.request.redact import masked_value
from callbacks.request.urls import Scope, display_url, host_of, is_masked, masked
from callbacks.text import age, many, when, with_lanes
from callbacks.version import __version__
from callbacks.web.filters import ago, by_reason, now_s
from callbacks.web.jobs import Job, Jobs
from callbacks.web.login import own_page, refusal, who
from callbacks.web.public import show
from callbacks.web.source import source

pages: Final = Blueprint("console", __name__)
pages.before_request(refusal)

#: Items on a page.
_ITEMS: Final = 50
_DESTINATIONS: Final = 100
#: Records read for one page, so that it opens within a second, whatever the filter.
_MOST_READ: Final = 2_000
#: Of the newest dead letters so many are looked at for the page of one destination.
_NEWEST: Final = 1_000
#: How often pages are refreshed for which much is read.
_SLOW_S: Final = 10.0
#: Ids shown of what waits at a destination, or is in flight.
_SHOWN: Final = 20
_ANSWERS: Final = 10
_STATE_TONES: Final = {State.SENT: "good", State.DEAD: "bad"}
_FILTERS: Final = ("destination", "reason", "status", "since", "until")


def _jobs() -> Jobs:
    jobs: Jobs = current_app.extensions["callbacks_jobs"]
    return jobs


# Destinations


@pages.app_template_global()
def destination_url(name: str) -> str:
    """The address of a destination's page; its path is masked as on pages."""
    return address_of("console.destination", name=_key(name))


def _key(name: str) -> str:
    return masked(name) if source().settings.mask_paths else name


def _named(key: str) -> str:
    """The destination of a key; raises InvalidCallback if its path is masked and not known."""
    if not (source().settings.mask_paths and is_masked(key)):
        return key
    inspector = Inspector(source().batcher.scripts)
    known = inspector.lanes(Scope(host_of(key), lanes=True))
    name = next((name for name in known if masked(name) == key), None)
    if name is None:
        raise InvalidCallback("destination", "is masked, and none that is known has this digest")
    return name


@pages.get("/destinations")
def destinations() -> Response:
    """The destinations, those in trouble first."""
    of = request.args.get("of", "").strip()
    trouble, cursor = "trouble" in request.args, request.args.get("cursor") or None
    found: admin.Page[Destination] = admin.Page(())
    problem, readings = "", []
    try:
        reading = source().of(
            ("destinations", of, trouble, cursor),
            lambda: admin.destinations(
                destination=_named(of) if of else None,
                trouble=trouble,
                limit=_DESTINATIONS,
                cursor=cursor,
            ),
        )
        found, readings = reading.value, [reading]
    except InvalidCallback as error:
        problem = str(error)
    return show(
        "destinations.html",
        *readings,
        of=of,
        only_trouble=trouble,
        problem=problem,
        items=found.items,
        caption=f"Those in trouble first, the others by name: {_counts(found)}",
        nothing="No destination is in trouble." if trouble else "None was used in the last day.",
        more=_more(found.cursor),
    )


def _counts(found: admin.Page[Any]) -> str:
    return f"{len(found):,} here" + ("; there are more" if found.cursor else "")


def _more(cursor: str | None) -> str:
    """The address of the next page with the same filters; empty at the end."""
    if cursor is None or request.endpoint is None:
        return ""
    given = {name: value for name, value in request.args.items() if value}
    return page_of(request.endpoint, given | {"cursor": cursor})


def page_of(endpoint: str, given: Mapping[str, str]) -> str:
    """The address of a page, with what is given of these parameters."""
    parameters: dict[str, Any] = {name: value for name, value in given.items() if value}
    return address_of(endpoint, **parameters)


@dataclass(frozen=True, slots=True)
class _Around:
    """What is at one destination now."""

    one: Destination | None
    in_flight: Sequence[str]
    waiting: Sequence[tuple[str, float]]


@dataclass(frozen=True, slots=True)
class _Dead:
    """The newest dead letters of a destination, and what it answered to them."""

    reasons: Sequence[tuple[str, int]]
    answers: Sequence[tuple[str, Attempt]]


@pages.get("/destination")
def destination() -> Response:
    """One destination: its condition, what is there, and what it answers."""
    key = request.args.get("name", "")
    try:
        name = _named(key)
        now = source().of(("destination", key), lambda: _around(name))
    except InvalidCallback as error:
        raise NotFound(str(error)) from None
    one = now.value.one
    if one is None:
        raise NotFound(f"Nothing waits for {name}, and nothing was sent to it in the last day.")
    past = source().of(("past", key), lambda: _past(name), fresh_s=_SLOW_S)
    snapshot = source().snapshot()
    dead = snapshot.value.overview.dead
    return show(
        "destination.html",
        now,
        past,
        snapshot,
        one=one,
        key=key,
        facts=_destination_facts(one),
        is_host=host_of(name) == name,
        in_flight=now.value.in_flight,
        waiting=now.value.waiting,
        answers=past.value.answers,
        dead=past.value.reasons,
        dead_read=min(dead, _NEWEST) if dead > _NEWEST else 0,
        dead_all=dead,
    )


def _around(name: str) -> _Around:
    scripts = source().batcher.scripts
    inspector = Inspector(scripts)
    return _Around(
        one=admin.destination(name),
        in_flight=[id for id, _ in inspector.first("inflight:", name, _SHOWN)],
        waiting=[(id, due / 1000) for id, due in inspector.first("lane:", name, _SHOWN)],
    )


def _past(name: str) -> _Dead:
    exact = f"{name}#" if host_of(name) == name else name
    dead = admin.list("dead", destination=exact, limit=_NEWEST, most_read=_NEWEST)
    going = admin.list("processing", destination=exact, limit=_ITEMS, most_read=_MOST_READ)
    attempts = [
        (one.id, one.history[-1])
        for one in [*dead.items[:_ITEMS], *going]
        if one.history and one.history[-1].outcome != "sent"
    ]
    attempts.sort(key=lambda row: -row[1].at)
    reasons = Counter(one.reason or "unknown" for one in dead)
    return _Dead(reasons.most_common(), attempts[:_ANSWERS])


def _destination_facts(one: Destination) -> list[tuple[str, str]]:
    limit = "any number" if one.limit is None else f"{one.limit:,}"
    return [
        ("condition", one.condition),
        ("interval", _interval(one)),
        ("limit of now", f"{limit} ({one.limit_why})"),
        ("in flight", f"{one.in_flight:,}"),
        ("breaker", f"{one.breaker}, {many(one.faults, 'fault')} in a row"),
        ("park", _park(one)),
        ("waiting", f"{one.waiting:,}"),
        ("attempts", f"{one.per_minute:,} in the last minute"),
        ("latency", "-" if one.latency is None else age(one.latency)),
        ("last", f"{one.last or 'nothing yet'} {one.last_status or ''}".strip()),
        ("failures", by_reason(one.failures) + " in this hour and the one before"),
        ("last 429", "never" if one.limited_at is None else ago(one.limited_at)),
    ]


def _interval(one: Destination) -> str:
    if one.interval is None:
        base = source().settings.destination_interval
        return f"{age(base)} (as set)" if base else "none (switched off)"
    return f"{one.interval * 1000:,.0f} ms" + (f" ({one.interval_why})" if one.interval_why else "")


def _park(one: Destination) -> str:
    if one.hold_why != "park" or one.held_until is None:
        return "not parked"
    return f"asked to wait until {when(one.held_until, now_s())}"


@pages.post("/steer")
def steer() -> Response:
    """Pause or resume a destination, or everything."""
    key, why = request.form.get("destination", ""), request.form.get("why", "").strip()
    try:
        name = _named(key) if key else None
        exact = name and host_of(name) == name and "lanes" not in request.form
        flash(_steered(f"{name}#" if exact else name, why), "good")
    except InvalidCallback as error:
        flash(f"Nothing was done: {error}", "bad")
    source().readings.forget(("destination", key))
    source().readings.forget("snapshot")
    if key:
        return redirect(address_of("console.destination", name=key), 303)
    return redirect(address_of("public.overview"), 303)


def _steered(target: str | None, why: str) -> str:
    """Do it, and say what was done."""
    if request.form.get("act") == "pause":
        paused = admin.pause(target, why=why, who=who())
        what = with_lanes(paused.destination, paused.lanes, paused.paths)
        return f"Paused: {what}; {many(paused.in_flight, 'request')} still in flight."
    resumed = admin.resume(target, why=why, who=who())
    if not resumed.changed:
        return f"There was nothing to resume: {resumed.target} is neither paused nor held."
    return f"Resumed: {with_lanes(resumed.target, resumed.lanes, resumed.paths)}."


# One callback


@pages.get("/search")
def search() -> Response:
    """Find a callback by its id, or a destination by its URL."""
    wanted = request.args.get("id", "").strip()
    if "://" in wanted:
        return redirect(address_of("console.destinations", of=wanted), 303)
    try:
        found = admin.show(check_id(wanted))
    except InvalidCallback as error:
        return _unknown(wanted, f"is no id: it {error.problem}.", 400)
    if found is None:
        return _unknown(wanted, _NOT_KEPT, 404)
    return redirect(address_of("console.callback", id=wanted), 303)


_NOT_KEPT: Final = "was never accepted, or its record is no longer kept."


def _unknown(id: str, why: str, status: int) -> Response:
    return make_response(render_template("unknown.html", id=id, why=why), status)


@pages.get("/callback")
def callback() -> Response:
    """The story of one callback."""
    id = request.args.get("id", "")
    try:
        reading = source().of(("callback", id), lambda: read_story(id))
    except InvalidCallback as error:
        return _unknown(id, f"is no id: it {error.problem}.", 400)
    if reading.value is None:
        return _unknown(id, _NOT_KEPT, 404)
    story, kept = reading.value
    status = story.status
    return show(
        "callback.html",
        reading,
        status=status,
        state=state_of(status),
        tone=_STATE_TONES.get(status.state, "warn"),
        facts=facts_of(story, now_s()).items(),
        acts=_acts(status),
        headers=None if kept is None else _headers(id, kept),
        url=display_url(status.callback_url),
    )


def _headers(id: str, kept: Request) -> list[tuple[str, str]]:
    """The headers as they may be shown."""
    ours = [
        ("content-type", "application/json"),
        ("user-agent", f"callbacks/{__version__}"),
        ("webhook-id", id),
        ("webhook-timestamp", "(when the attempt was made)"),
        ("webhook-attempt", "(its number)"),
    ]
    if source().settings.signing_configured:
        ours.append(("webhook-signature", "(masked)"))
    theirs = [(name, masked_value(name, value)) for name, value in kept.headers]
    return [*theirs, *ours]


def _acts(status: Status) -> list[tuple[str, str]]:
    if status.state in (State.QUEUED, State.PROCESSING):
        return [("cancel", "Cancel")]
    return [("replay", "Replay")] if status.state is State.DEAD else []


@pages.post("/callback/act")
def act() -> Response:
    """Cancel or replay one callback."""
    id, why = request.form.get("id", ""), request.form.get("why", "").strip()
    try:
        if request.form.get("act") == "cancel":
            _flash_cancel(admin.cancel(id, why=why, who=who()))
        else:
            done = admin.replay(ids=[id], why=why, who=who())
            told = "It is queued again." if done.count else "It is no dead letter (any more)."
            flash(told, "good" if done.count else "bad")
    except InvalidCallback as error:
        flash(f"Nothing was done: {error}", "bad")
    source().readings.forget(("callback", id))
    return redirect(address_of("console.callback", id=id), 303)


def _flash_cancel(done: admin.Cancellation) -> None:
    if done.cancelled:
        flash("It is cancelled.", "good")
    elif done.in_flight:
        flash("It is being sent right now; there will be no further attempt.", "good")
    else:
        state = done.state.value if done.state else "unknown"
        flash(f"It cannot be cancelled: it is {state}.", "bad")


# Dead letters


@pages.get("/dead")
def dead() -> Response:
    """The dead letters that a filter selects, the newest first."""
    wanted = {name: request.args.get(name, "").strip() for name in _FILTERS}
    cursor = request.args.get("cursor") or None
    found: admin.Page[Status] = admin.Page(())
    problem, readings = "", []
    try:
        reading = source().of(
            ("dead", *wanted.values(), cursor, _jobs().ended),
            lambda: admin.list(
                "dead", **_selected(wanted), limit=_ITEMS, cursor=cursor, most_read=_MOST_READ
            ),
            fresh_s=_SLOW_S if any(wanted.values()) else 1.0,
        )
        found, readings = reading.value, [reading]
    except InvalidCallback as error:
        problem = str(error)
    return show(
        "dead.html",
        *readings,
        wanted=wanted,
        words=_words(wanted),
        everything=not any(wanted.values()),
        reasons=[reason.value for reason in Reason],
        problem=problem,
        items=found.items,
        caption=_dead_caption(found, any(wanted.values())),
        more=_more(found.cursor),
        job=_jobs().current(),
        here=request.full_path.rstrip("?"),
    )


def _selected(wanted: Mapping[str, str]) -> dict[str, Any]:
    """The filter as parameters of `callbacks.admin`."""
    given: dict[str, Any] = {name: value for name, value in wanted.items() if value}
    if "destination" in given:
        given["destination"] = _named(given["destination"])
    return given


def _words(wanted: Mapping[str, str]) -> str:
    told = [f"{name} {value}" for name, value in wanted.items() if value]
    return ", ".join(told) or "all dead letters"


def _dead_caption(found: admin.Page[Status], filtered: bool) -> str:
    if found.items:
        return f"The newest first: {_counts(found)}"
    if found.cursor:
        return f"None among the {_MOST_READ:,} that were looked at; there are older ones."
    return "No dead letter matches." if filtered else "There are no dead letters."


@pages.post("/dead")
def act_on_dead() -> Response:
    """Count, replay or purge all dead letters that a filter selects."""
    wanted = {name: request.form.get(name, "").strip() for name in _FILTERS}
    act = request.form.get("act", "")
    back = page_of("console.dead", wanted)
    if problem := _unsure(act, wanted):
        flash(problem, "bad")
        return redirect(back, 303)
    try:
        _begin(act, wanted, request.form.get("why", "").strip())
    except InvalidCallback as error:
        flash(f"Nothing was done: {error}", "bad")
    return redirect(back, 303)


def _unsure(act: str, wanted: Mapping[str, str]) -> str:
    """Why it is not done yet; empty if it is."""
    if act not in ("count", "replay", "purge"):
        return "Nothing was done: choose dry run, replay or purge."
    large = act == "purge" or (act == "replay" and not any(wanted.values()))
    if large and "sure" not in request.form:
        return "Nothing was done: tick the box first, because this cannot be undone."
    return ""


def _begin(act: str, wanted: Mapping[str, str], why: str) -> None:
    """Start the job; raises InvalidCallback for a bad filter."""
    fits = _selected(wanted)
    given = fits or {"all": True}
    change = admin.purge if act == "purge" else admin.replay
    name = who()

    def work(progress: Progress) -> admin.DeadLetters:
        return change(**given, dry_run=act == "count", progress=progress, why=why, who=name)

    admin.list("dead", **fits, limit=1, most_read=1)  # raises for a bad filter
    if not _jobs().start(Job(act, _words(wanted)), work):
        flash("Nothing was done: another job is running; wait for it, or stop it.", "bad")


@pages.post("/dead/stop")
def stop_job() -> Response:
    """Stop the job that is running."""
    _jobs().stop()
    return redirect(own_page(request.form.get("back")), 303)


# Workers and the journal


@pages.get("/workers")
def workers() -> Response:
    """The worker processes, the scheduler and the producers."""
    shown = source().snapshot()
    snapshot = shown.value
    told = [row for row in facts(snapshot) if row[0] in ("scheduler", "producers", "lock")]
    return show(
        "workers.html",
        shown,
        workers=worker_rows(snapshot.workers, snapshot.overview.now_ms),
        worker_summary=summary(snapshot.workers),
        facts=told,
        private=True,
    )


@pages.get("/journal")
def journal() -> Response:
    """What people did."""
    cursor = request.args.get("cursor") or None
    try:
        reading = source().of(
            ("journal", cursor), lambda: admin.log(limit=_DESTINATIONS, cursor=cursor)
        )
    except InvalidCallback as error:
        raise NotFound(str(error)) from None
    return show("journal.html", reading, acts=reading.value.items, more=_more(reading.value.cursor))
