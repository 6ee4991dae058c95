"""Who may see the console: a login form for `CALLBACKS_WEB_TOKEN`, and a signed session cookie."""

from __future__ import annotations

import hashlib
import hmac
import time
from typing import Final

from flask import (
    Blueprint,
    Flask,
    Response,
    abort,
    current_app,
    make_response,
    redirect,
    render_template,
    request,
    session,
    url_for,
)
from flask.sessions import SecureCookieSessionInterface
from flask_wtf.csrf import CSRFError, CSRFProtect
from limits import RateLimitItem, parse
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter
from werkzeug.wrappers import Response as AnyResponse

from callbacks.log import log

#: How long a session lasts, in use or not.
SESSION_S: Final = 12 * 3_600
#: Attempts to log in from one address, and from all.
LIMITS: Final = ("5 per 1 minute", "20 per 1 hour")
ALL_LIMIT: Final = "100 per 1 minute"
_MOST_CHARS: Final = 60
#: The header of a request that wants the changing part of a page alone, and of its answer.
LIVE: Final = "X-Live"

pages: Final = Blueprint("login", __name__)


class _Sessions(SecureCookieSessionInterface):
    """Sessions whose cookie goes over https alone, where this request came by it."""

    def get_cookie_secure(self, app: Flask) -> bool:
        """Whether the cookie is `Secure`."""
        del app
        return request.is_secure


class _Gate:
    """The token, and how often it may be guessed."""

    def __init__(self, token: str) -> None:
        self._token = token.encode()
        self._limiter = MovingWindowRateLimiter(MemoryStorage())
        self._limits: list[tuple[RateLimitItem, bool]] = [
            *((parse(limit), True) for limit in LIMITS),
            (parse(ALL_LIMIT), False),
        ]

    def wait_s(self, address: str) -> float:
        """Count an attempt; seconds until the next is allowed, 0 if this one is."""
        for limit, by_address in self._limits:
            who = address if by_address else "all"
            if not self._limiter.hit(limit, who):
                reset, _ = self._limiter.get_window_stats(limit, who)
                return max(1.0, reset - time.time())
        return 0.0

    def opens(self, token: str, address: str) -> bool:
        """Whether this is the token; takes as long for any other. Then the address starts anew."""
        if not hmac.compare_digest(token.encode(), self._token):
            return False
        for limit, by_address in self._limits:
            if by_address:
                self._limiter.clear(limit, address)
        return True


def protect(app: Flask, token: str) -> None:
    """Add the login, sessions and CSRF protection to an application."""
    app.config.update(
        SECRET_KEY=_key(token),
        SESSION_COOKIE_NAME="callbacks_session",
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Lax",  # a link to a page must find its reader signed in
        SESSION_REFRESH_EACH_REQUEST=False,
        PERMANENT_SESSION_LIFETIME=SESSION_S,
        WTF_CSRF_TIME_LIMIT=None,  # as long as the session
    )
    app.session_interface = _Sessions()
    app.extensions["callbacks_gate"] = _Gate(token)
    CSRFProtect(app)
    app.register_blueprint(pages)
    app.register_error_handler(CSRFError, _forged)
    app.context_processor(
        lambda: {"who": session.get("who"), "has_login": True, "signed_in": is_signed_in()}
    )


def _key(token: str) -> bytes:
    """The key that signs sessions: the same in all processes, and another for another token.

    Slow to compute, so that a cookie is no short way to guess the token.
    """
    return hashlib.scrypt(token.encode(), salt=b"callbacks web session", n=2**14, r=8, p=1)


def is_signed_in() -> bool:
    """Whether this request is of somebody who knows the token."""
    if not current_app.secret_key:
        return False
    return "who" in session and time.time() - float(session.get("since", 0)) < SESSION_S


def who() -> str:
    """Who acts, for the journal."""
    return f"{session.get('who') or 'somebody'}@console"


def refusal() -> AnyResponse | None:
    """Send whoever is not signed in to the login; None for all others."""
    if is_signed_in():
        return None
    if LIVE in request.headers:
        abort(401, "Your session has ended: log in again.")
    target = request.full_path.rstrip("?") if request.method == "GET" else None
    return redirect(url_for("login.login", next=target), 303)


@pages.get("/login")
def login() -> AnyResponse:
    """The form."""
    if is_signed_in():
        return redirect(own_page(request.args.get("next")), 303)
    return make_response(_form())


@pages.post("/login")
def log_in() -> AnyResponse:
    """Check the token, and begin a session."""
    gate: _Gate = current_app.extensions["callbacks_gate"]
    address = request.remote_addr or "unknown"
    if wait_s := gate.wait_s(address):
        log.warning("login_refused", address=address, why="too many attempts")
        response = make_response(_form(f"Too many attempts: try again in {wait_s:.0f} s."), 429)
        response.headers["Retry-After"] = f"{wait_s:.0f}"
        return response
    if not gate.opens(request.form.get("token", ""), address):
        log.warning("login_refused", address=address, why="wrong token")
        return make_response(_form("This is not the token in CALLBACKS_WEB_TOKEN."), 403)
    name = "".join(char for char in request.form.get("name", "") if char.isprintable()).strip()
    session.clear()
    session.permanent = True
    session.update(who=name[:_MOST_CHARS] or "somebody", since=int(time.time()))
    log.info("login", address=address, who=who())
    return redirect(own_page(request.form.get("next")), 303)


@pages.post("/logout")
def log_out() -> AnyResponse:
    """End the session."""
    session.clear()
    return redirect(url_for("public.overview"), 303)


def _form(problem: str = "") -> str:
    target = request.values.get("next", "")
    return render_template("login.html", problem=problem, next=target)


def own_page(wanted: str | None) -> str:
    """The page that a form wants to go on with, if it is one of ours; else the first."""
    if wanted and wanted.startswith("/") and not wanted.startswith(("//", "/\\")):
        return wanted
    return url_for("public.overview")


def _forged(error: CSRFError) -> Response:
    """A form that is not of this session: most often of one that has ended."""
    del error
    problem = "Nothing was done: your session has ended, or the form is not from here."
    return make_response(_form(problem), 400)
