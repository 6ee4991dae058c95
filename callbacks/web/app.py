"""The application of `callbacks web`: what all its pages have in common."""

from __future__ import annotations

import hashlib
from functools import partial
from pathlib import Path
from typing import Any, Final

import redis
from flask import Flask, Response, make_response, render_template, request, url_for
from werkzeug.exceptions import HTTPException

from callbacks.log import log
from callbacks.request.urls import masked
from callbacks.text import printable
from callbacks.version import __version__
from callbacks.web import console, filters, login, public
from callbacks.web.jobs import Jobs
from callbacks.web.server import MAX_BODY_BYTES
from callbacks.web.source import Source

#: No assets of others, nothing inline (Content Security Policy, level 3).
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS: Final = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",  # not less: the CSRF check over https looks at it
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
_STATIC: Final = Path(__file__).parent / "static"


def create_app(source: Source) -> Flask:
    """Make the WSGI application. Without `CALLBACKS_WEB_TOKEN` it has the public part alone."""
    app = Flask(__name__)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
    app.extensions["callbacks"] = source
    # Whatever a page shows passes through here, and is escaped after it.
    shown = partial(_shown, source.settings.mask_paths)
    app.jinja_options = {"finalize": shown, "trim_blocks": True, "lstrip_blocks": True}
    filters.register(app)
    app.context_processor(_common)
    app.after_request(_secured)
    app.register_blueprint(public.pages)
    if source.settings.web_token:
        login.protect(app, source.settings.web_token)
        app.extensions["callbacks_jobs"] = Jobs()
        app.register_blueprint(console.pages)
    app.register_error_handler(HTTPException, _refused)
    app.register_error_handler(redis.RedisError, _away)
    return app


def end_jobs(app: Flask) -> None:
    """Stop what goes on, because the process ends."""
    jobs: Jobs | None = app.extensions.get("callbacks_jobs")
    if jobs:
        jobs.end()


def _shown(mask_paths: bool, value: Any) -> Any:
    """Untrusted text without characters that could mislead, such as those that turn its order."""
    if type(value) is not str:
        return value
    return printable(masked(value) if mask_paths else value)


def _common() -> dict[str, Any]:
    """What every template may use."""
    return {"version": __version__, "asset": _asset, "live": public.is_live()}


_digests: Final = {
    path.name: hashlib.sha256(path.read_bytes()).hexdigest()[:12] for path in _STATIC.iterdir()
}


def _asset(name: str) -> str:
    """The address of a file of ours, which changes with it, so that browsers may keep it."""
    return url_for("static", filename=name, v=_digests[name])


def _secured(response: Response) -> Response:
    """Nothing may be cached but our own files, and nothing of others may be loaded or run."""
    response.headers.update(HEADERS)
    if request.endpoint == "static" and request.args.get("v"):
        response.headers["Cache-Control"] = "public, max-age=31536000, immutable"
    else:
        response.headers["Cache-Control"] = "no-store"
    if request.is_secure:
        response.headers["Strict-Transport-Security"] = "max-age=31536000"
    return response


def _refused(error: HTTPException) -> Response:
    """A page for whatever was wrong with the request, or with us."""
    response = make_response(render_template("error.html", error=error), error.code or 500)
    more = dict(error.get_headers())
    response.headers.extend((name, more[name]) for name in ("Allow", "Retry-After") if name in more)
    return response


def _away(error: redis.RedisError) -> Response:
    """The page where Redis does not answer and there are no numbers from before.

    The error may name an address, so the log alone has it.
    """
    log.warning("redis_away", error=str(error))
    return public.away(error, is_act=request.method == "POST")
