"""The checks of `doctor` other than those of the server: settings, workers, totals. Pure."""

from __future__ import annotations

import re
from typing import Final

import redis

from callbacks.batcher.errors import RedisRefused, WrongForm
from callbacks.batcher.inspector import Overview
from callbacks.batcher.journal import told
from callbacks.monitor.checks import Check, failure, ok, warning
from callbacks.monitor.health import (
    RESTART_WORKERS,
    START_SCHEDULER,
    START_WORKERS,
    Health,
    scheduler_late,
)
from callbacks.monitor.probes import Work, Workers
from callbacks.monitor.trouble import WORST
from callbacks.request.secrets import SecretResolverError, load_resolver
from callbacks.settings import Settings, secret_variable
from callbacks.text import age, many

#: A request that takes longer is cut off by the shutdown timeout of the Procfile.
SHUTDOWN_S: Final = 11
#: How long to warn about a loss of data.
_LOSS_SHOWN_MS: Final = 86_400_000


# Settings


def judge_settings(settings: Settings) -> list[Check]:
    """Run the checks that need no Redis."""
    return [spelling(settings), signing(settings), addresses(settings), deadline(settings)]


def spelling(settings: Settings) -> Check:
    """Warn about misspelt settings."""
    if settings.warnings:
        return warning(
            "settings",
            "; ".join(settings.warnings),
            "rename it, or unset it if it is not meant for us",
        )
    place = f"namespace {settings.namespace}, environment {settings.environment}"
    return ok("settings", f"valid; {place}")


def bad_settings(error: str) -> Check:
    """Fail for settings with which no process starts."""
    return failure("settings", error, "correct it in every process: none starts with it")


def signing(settings: Settings) -> Check:
    """Whether receivers can verify that a request is ours."""
    if not settings.signing_configured:
        return warning(
            "signing",
            "no secret is set: requests are not signed, and receivers cannot verify them",
            "set CALLBACKS_SECRET to whsec_ and 32 random bytes in base64, in every process",
        )
    if settings.secret_resolver:
        try:
            load_resolver(settings.secret_resolver)
        except SecretResolverError as error:
            todo = "correct CALLBACKS_SECRET_RESOLVER: with this value no worker starts"
            return failure("signing", f"{error} (here)", todo)
        return ok("signing", f"secrets come from {settings.secret_resolver}")
    if settings.secrets_for(settings.environment):
        return ok("signing", f"there is a secret for {settings.environment}")
    return warning(
        "signing",
        f"there are secrets, but none for {settings.environment}: enqueue refuses its callbacks",
        f"set {secret_variable(settings.environment)}, or CALLBACKS_SECRET for all environments",
    )


def on_dead(settings: Settings, missing: str) -> Check:
    """Whether workers find the actor for dead letters."""
    if not settings.on_dead:
        return ok("on_dead", "no actor is notified of dead letters")
    if not missing:
        return ok("on_dead", f"{settings.on_dead} is notified of dead letters")
    todo = (
        "name the modules that your workers load, such as callbacks doctor yourapp.tasks; if this"
        " still fails, correct CALLBACKS_ON_DEAD: no worker starts"
    )
    return failure("on_dead", missing.partition(";")[0], todo)


def addresses(settings: Settings) -> Check:
    """Whether non-public addresses may be reached."""
    allowed = ", ".join(str(network) for network in settings.allowed_networks)
    if not allowed:
        return ok("addresses", "only public addresses are reached")
    return warning(
        "addresses",
        f"callback URLs may lead into {allowed}, although that is not public",
        "unset CALLBACKS_ALLOWED_NETWORKS if customers choose the URLs",
    )


def deadline(settings: Settings) -> Check:
    """Whether requests end before a worker that shuts down."""
    found = f"a request ends within {settings.deadline:g} s"
    if settings.deadline <= SHUTDOWN_S:
        return ok("deadline", f"{found}, and --worker-shutdown-timeout has to be longer")
    least = int(settings.deadline * 1000) + 1000
    return warning(
        "deadline",
        f"{found}: longer than the usual shutdown, which cuts it off, so that it is sent again",
        f"start workers with --worker-shutdown-timeout {least}, or lower CALLBACKS_DEADLINE to 10",
    )


# Reaching Redis


def reached(settings: Settings) -> Check:
    """Report that Redis answers."""
    unverified = settings.redis_place.tls and not settings.redis_tls_verify
    how = ", encrypted, its certificate not verified" if unverified else ""
    return ok("redis", f"answers at {settings.redis_address}{how}")


def unreached(settings: Settings, error: redis.RedisError) -> Check:
    """Fail because Redis does not answer or refuses us, without advice in its own message."""
    words = str(error).partition(";")[0].rstrip(".")
    is_there = isinstance(error, _ANSWERS) or not isinstance(error, _AWAY) or _FULL in words
    what = "Redis at {} answers: {}" if is_there else "no Redis at {}: {}"
    found = what.format(settings.redis_address, words)
    return failure("redis", found, _way_out(settings, error))


def _way_out(settings: Settings, error: redis.RedisError) -> str:
    for kind, words, todo in _WAYS_OUT:
        if isinstance(error, kind) and re.search(words, str(error), re.IGNORECASE):
            return todo.format(namespace=settings.namespace)
    return "start Redis, or correct REDIS_URL; meanwhile enqueue raises and nothing is sent"


#: Subclasses and messages of redis-py's ConnectionError that are in fact replies.
_FULL: Final = "max number of clients"
_AWAY: Final = (redis.ConnectionError, redis.TimeoutError)
_ANSWERS: Final = (
    RedisRefused,
    redis.AuthenticationError,
    redis.exceptions.AuthorizationError,
    redis.exceptions.BusyLoadingError,
)
# The first match applies: kind of error, pattern of its message, what to do.
_WAYS_OUT: Final = (
    (
        WrongForm,
        "",
        "write REDIS_URL in the form that fits: redis://, redis+sentinel:// or redis+cluster://",
    ),
    (
        redis.exceptions.BusyLoadingError,
        "",
        "wait: Redis is loading its data from disk (redis-cli INFO persistence shows how far)",
    ),
    (
        redis.exceptions.NoPermissionError,
        "",
        "redis-cli ACL SETUSER <user> '~{{{namespace}}}:*' '~{namespace}:*' +@all -@admin",
    ),
    (
        (redis.AuthenticationError, redis.exceptions.AuthorizationError),
        "",
        "correct the user and the password in REDIS_URL",
    ),
    (
        redis.ConnectionError,
        _FULL,
        "lower CALLBACKS_REDIS_MAX_CONNECTIONS, run fewer processes, or raise maxclients",
    ),
    (
        redis.ConnectionError,
        "certificate",
        "on Heroku set CALLBACKS_REDIS_TLS_VERIFY=false; otherwise renew its certificate",
    ),
    (
        redis.RedisError,
        "db index|invalid database",
        "correct the database number at the end of REDIS_URL",
    ),
    (
        redis.ConnectionError,
        "not known|name resolution|no address",
        "correct the host in REDIS_URL, which does not resolve here",
    ),
    (
        redis.TimeoutError,
        "",
        "see whether Redis hangs (its log, its machine) or a firewall is in between",
    ),
)


def unreadable(settings: Settings, error: redis.RedisError) -> Check:
    """Fail because Redis answers but does not let us read the totals."""
    return failure("books", f"cannot be read: {error}", _way_out(settings, error))


# Processes


def judge_work(work: Work, workers: Workers, health: Health, settings: Settings) -> list[Check]:
    """Run the checks of processes, totals and destinations."""
    return [
        judge_workers(work, workers, health, settings),
        scheduler(work),
        namespace(work, settings),
        balance(work),
        expiry(work),
        waiting(work, settings),
        dead_letters(work),
        destinations(work),
        secrets(work),
        messages(work, settings),
    ]


def judge_workers(work: Work, workers: Workers, health: Health, settings: Settings) -> Check:
    """Whether a worker claims and sends; never better than the health in `status`."""
    if health.word == "no worker":
        return failure(
            "workers", str(health), RESTART_WORKERS if workers.polling else START_WORKERS
        )
    polling = "1 process" if workers.polling == 1 else f"{workers.polling} processes"
    owed = work.books.queued + work.books.processing
    every = f"{settings.check_interval:g} s"
    if workers.polling and workers.ticking is not False:
        does = f", and one ticks every {every}" if workers.ticking else ""
        return ok("workers", f"{polling} at work{does}")
    if workers.polling:
        found = f"{polling} on the queue, but none did its regular duties within {every}"
        todo = RESTART_WORKERS
    elif workers.ticking:
        found = f"a worker ticked within {every}, but none fetches messages"
        todo = "run this again: one may have just ended; if it persists, restart the workers"
    else:
        found, todo = "no worker is running", START_WORKERS
    if owed:
        return failure("workers", f"{found}; {many(owed, 'callback')} not sent yet", todo)
    return warning("workers", f"{found}; nothing to send right now", todo)


def scheduler(work: Work) -> Check:
    """Whether periodiq is running. Nothing is late without it."""
    books = work.books
    late = scheduler_late(books)
    if books.scheduled_ms is not None and not late:
        return ok("scheduler", f"seen {age(max(0, books.now_ms - books.scheduled_ms) / 1000)} ago")
    unseen = "never seen; this delays nothing, because each worker checks by itself"
    return warning("scheduler", late or unseen, START_SCHEDULER)


# Totals


def namespace(work: Work, settings: Settings) -> Check:
    """Whether this namespace is in use, or rather another one on the same Redis."""
    own, others = settings.namespace, ", ".join(work.others)
    if not others:
        return ok("namespace", f"{own}, the only one found on this Redis")
    if work.books.totals["accepted"]:
        return ok("namespace", f"{own}; also on this Redis: {others}")
    todo = "if one of them is meant, set CALLBACKS_NAMESPACE to it, in every process"
    return warning("namespace", f"{own} is empty, but this Redis has also {others}", todo)


def balance(work: Work) -> Check:
    """Whether every accepted callback is accounted for."""
    books, off = work.books, work.books.balance
    lost_ms = None if books.data_lost_ms is None else books.now_ms - books.data_lost_ms
    if not off and lost_ms is not None and lost_ms <= _LOSS_SHOWN_MS:
        found = f"they balance, but Redis lost its data, noticed {age(max(0, lost_ms) / 1000)} ago"
        return warning(
            "books",
            found,
            "enqueue again, with the same ids, what was accepted before; see persistence",
        )
    if not off:
        return ok("books", f"they balance: {work.books.totals['accepted']:,} accepted in total")
    return failure(
        "books",
        f"they do not balance by {off}",
        "callbacks audit lists what is wrong; see whether Redis lost data (eviction, persistence)",
    )


def expiry(work: Work) -> Check:
    """Whether callbacks expire, or a jump of Redis' clock has suspended that."""
    books = work.books
    if not books.held:
        return ok("expiry", "callbacks expire at their end of life")
    left = age(((books.held_until_ms or 0) - books.now_ms) / 1000)
    return failure(
        "expiry",
        f"the clock of Redis jumped ahead by {age((books.jump_ms or 0) / 1000)}: nothing expires"
        f" for another {left}, then everything that is too old by that clock",
        "correct the clock of Redis' machine, which ends this within a check interval; if it is"
        " right now, callbacks cleanup --expired",
    )


def waiting(work: Work, settings: Settings) -> Check:
    """How long what is ready has waited, and whether new callbacks are accepted."""
    books, ready_s = work.books, _waited_s(work.books, work.survey.ready_since_ms)
    held_s = _waited_s(books, work.survey.held_since_ms)
    ages = [
        f", the oldest {what} due for {age(waited_s)}"
        for what, waited_s in (("ready", ready_s), ("held", held_s))
        if waited_s
    ]
    found = f"{books.queued:,} queued{''.join(ages)}, {books.processing:,} processing"
    if 0 < settings.max_queued <= books.queued:
        todo = "see callbacks status; then raise CALLBACKS_MAX_QUEUED"
        return failure("waiting", f"{found}: enqueue raises QueueFull", todo)
    if books.paused_since_ms is not None:
        since = age(max(0, books.now_ms - books.paused_since_ms) / 1000)
        by = told(books.paused_by) if books.paused_by else ""
        paused = f"{found}; everything is paused for {since} {by}".rstrip()
        return warning("waiting", paused, "callbacks resume")
    if ready_s > settings.max_delay + settings.drain_target:
        todo = "callbacks destinations shows whether one is slow or all; if all, start more workers"
        return warning("waiting", found, todo)
    return ok("waiting", found)


def _waited_s(books: Overview, since_ms: int | None) -> float:
    return 0.0 if since_ms is None else max(0, books.now_ms - since_ms) / 1000


def dead_letters(work: Work) -> Check:
    """How many callbacks died recently."""
    found = f"{work.books.dead_last_hour:,} within the last hour, {work.books.dead:,} kept"
    if not work.books.dead_last_hour:
        return ok("dead letters", found)
    todo = "callbacks dead show --since 1h shows why; then callbacks dead replay --since 1h"
    return warning("dead letters", found, todo)


def destinations(work: Work) -> Check:
    """How many destinations are held up, and the worst of those in trouble."""
    found = f"{work.destinations:,} used within a day"
    held = [
        f"{count:,} {what}"
        for count, what in (
            (work.broken, "with an open breaker"),
            (work.paused, "paused"),
            (len(work.trouble), "in trouble"),
        )
        if count
    ]
    if not held:
        return ok("destinations", found)
    if work.trouble:
        named = "; ".join(f"{one.destination}: {one.reason}" for one in work.trouble[:WORST])
        todos = [one.todo for one in work.trouble[:WORST]]
        rest = ["callbacks destinations --trouble shows all"] if len(work.trouble) > WORST else []
        todo = "; ".join(dict.fromkeys(todos + rest))
        return warning("destinations", f"{found}, {', '.join(held)}. The worst: {named}", todo)
    todo = "callbacks destinations shows which; callbacks resume DESTINATION resumes one now"
    return warning("destinations", f"{found}, {', '.join(held)}", todo)


def secrets(work: Work) -> Check:
    """Whether all waiting callbacks can be signed."""
    if not work.unsigned:
        return ok("secrets", "none was missing recently")
    held = many(work.unsigned, "destination")
    return failure(
        "secrets",
        f"callbacks for {held} wait: {work.unsigned_why}; they can only expire",
        "see what CALLBACKS_SECRET_RESOLVER does in the workers; sending resumes by itself",
    )


def messages(work: Work, settings: Settings) -> Check:
    """Whether Dramatiq keeps messages that failed, which are never ours."""
    if not work.failed_messages:
        return ok("messages", "none failed for good")
    key = f"{settings.message_namespace}:callbacks.XQ"
    return warning(
        "messages",
        f"{many(work.failed_messages, 'message')} failed for good, which ours do not: another"
        " program or release uses the queue",
        f"see redis-cli HVALS {key}.msgs, then redis-cli DEL {key} {key}.msgs",
    )
