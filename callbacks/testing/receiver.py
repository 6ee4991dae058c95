"""Receives what the workers of a test send, checks signatures, and answers as scripted."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from types import TracebackType
from typing import Final, Self

from callbacks.cli.receiver import Hit, Receiver, Response
from callbacks.delivery.callback import AICallback
from callbacks.model import CallbacksError, Request
from callbacks.request.signature import verify
from callbacks.testing.app import CallbacksApp
from callbacks.testing.requests import Received

_PATH: Final = "/hook"


class CallbacksReceiver:
    """A receiver on this machine for one `CallbacksApp`; a context manager.

    What the app sends to other hosts comes here, too. A request with a wrong signature is answered
    401. `requests` are all that came, in order.
    """

    def __init__(self, app: CallbacksApp) -> None:
        self._app = app
        self._receiver = Receiver(behaviour=self._answer, keep=0)
        self._lock = threading.Lock()
        self._urls: dict[str, str] = {}
        self._next: deque[Response] = deque()
        self._always = Response()
        self._requests: list[Received] = []

    def __enter__(self) -> Self:
        self._receiver.__enter__()
        self._app.route = self._route
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._app.route = lambda _id, _url: None
        self._receiver.__exit__(kind, error, trace)

    @property
    def url(self) -> str:
        """A URL of it; any other path will do as well."""
        return self._receiver.url(_PATH)

    @property
    def requests(self) -> Sequence[Received]:
        """What has come so far, in order."""
        with self._lock:
            return tuple(self._requests)

    def answer_next(self, *answers: int | Response) -> None:
        """Give these answers, statuses or a `Response` each, to the next requests in turn."""
        with self._lock:
            self._next.extend(map(_response, answers))

    def answer_always(self, answer: int | Response) -> None:
        """Give this answer, instead of 200, to all requests for which there is no other."""
        with self._lock:
            self._always = _response(answer)

    def clear(self) -> None:
        """Forget what has come, and all answers."""
        with self._lock:
            self._requests.clear()
            self._next.clear()
            self._always = Response()

    def _route(self, id: str, url: str) -> str:
        """Let a request for another host come here; returns the URL to send it to."""
        self._urls[id] = url
        return self.url

    def _answer(self, hit: Hit) -> Response:
        """Runs in the receiver's thread."""
        url = self._urls.pop(hit.id, None) or self._receiver.url(hit.path)
        verified, problem = self._check(hit, url)
        with self._lock:
            reply = Response(401, body=problem.encode()) if problem else self._scripted()
            self._requests.append(_received(hit, url, verified, problem, reply))
        return reply

    def _scripted(self) -> Response:
        return self._next.popleft() if self._next else self._always

    def _check(self, hit: Hit, url: str) -> tuple[bool | None, str]:
        """Whether its signature is valid, None if there is no secret; and what is wrong with it."""
        settings = self._app.settings
        if not settings.signing_configured:
            return None, ""
        environment = _received(hit, url, None, "", Response()).environment
        request = Request(url, "", str(environment), (), hit.body)
        try:
            secrets = AICallback.stored(hit.id, request, settings).secrets
            verify(secrets, hit.headers, hit.body, self._app.clock.time())
        except CallbacksError as error:
            return False, str(error)
        except ValueError as error:  # there is none for its environment
            return False, str(error)
        return True, ""


def _response(answer: int | Response) -> Response:
    return Response(answer) if isinstance(answer, int) else answer


def _received(hit: Hit, url: str, verified: bool | None, problem: str, reply: Response) -> Received:
    cut = reply.drop or reply.reset
    attempt = hit.headers.get("webhook-attempt", "")
    return Received(
        id=hit.id,
        url=url,
        headers=dict(hit.headers),
        body=hit.body,
        path=hit.path,
        attempt=int(attempt) if attempt.isdecimal() else 0,
        verified=verified,
        status=None if cut else reply.status,
        problem=problem,
    )
