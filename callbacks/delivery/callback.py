"""One callback: its payload, its secrets, and sending it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache, partial
from ipaddress import IPv4Network, IPv6Network
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Protocol

from callbacks.delivery.daemon_pool import DaemonPool, TooManyHang
from callbacks.delivery.deadline import Deadline
from callbacks.model import Answer, Reason, Request
from callbacks.request.freeze import check_id, freeze, mint_id, request_headers
from callbacks.request.redact import excerpt, own_values
from callbacks.request.secrets import SecretResolverError, ask_resolver
from callbacks.version import __version__

if TYPE_CHECKING:
    from callbacks.delivery.transport import Transport
    from callbacks.settings import Settings

_MAX_RESPONSE_BYTES: Final = 65_536  # discarded so that a connection can be reused


class Sender(Protocol):
    """Sends requests: `transport.Transport`, or a double in a test."""

    def post(
        self,
        url: str,
        headers: Mapping[str, str],
        body: bytes,
        *,
        spent_s: float = 0,
        proven: bool = False,
    ) -> Answer:
        """Send one request; a remote fault is an answer, not an exception.

        `spent_s`: how much of the attempt's deadline is already used. `proven`: the receiver has
        answered lately.
        """
        ...


def shared_transport(settings: Settings) -> Transport:
    """Return this process's transport for these settings; opens no connection yet."""
    timeouts = (settings.connect_timeout, settings.read_timeout, settings.deadline)
    with _MAKING:  # else 64 threads might each make one, and load all the certificates
        return _transport(settings.allowed_networks, *timeouts)


_MAKING: Final = threading.Lock()


@cache
def _transport(
    networks: tuple[IPv4Network | IPv6Network, ...],
    connect_timeout: float,
    read_timeout: float,
    deadline: float,
) -> Transport:
    from callbacks.delivery.adapter import GuardedAdapter  # noqa: PLC0415 - keeps requests out of
    from callbacks.delivery.transport import Transport  # noqa: PLC0415 - the import of callbacks

    return Transport(
        GuardedAdapter(
            allowed_networks=networks,
            connect_timeout=connect_timeout,
            read_timeout=read_timeout,
            deadline=deadline,
            max_response_bytes=_MAX_RESPONSE_BYTES,
        )
    )


#: A question to the resolver: its own path, the URL, the environment.
_Ask = tuple[str, str, str]


def _resolve(ask: _Ask) -> tuple[str, ...]:
    try:
        return ask_resolver(*ask)
    except SecretResolverError:
        raise
    except BaseException as error:  # a SystemExit must not end the waiting thread
        raise SecretResolverError(f"{ask[0]} raised {type(error).__name__}") from error


#: The resolver is the application's code and may hang.
_RESOLUTIONS: Final = DaemonPool(_resolve, name="secret resolver")


class AICallback:
    """One callback: builds the envelope, infers environment and secrets, signs and sends.

    The constructor validates and freezes the request (raises `InvalidCallback`); `stored` takes
    one that was frozen at enqueue.
    """

    def __init__(
        self,
        callback_url: str,
        data: Any,
        *,
        event: str = "callback",
        id: str | None = None,
        environment: str | None = None,
        headers: Mapping[str, str] | Iterable[tuple[str, str]] | None = None,
        lane: str | None = None,
        settings: Settings | None = None,
        now: datetime | None = None,
    ) -> None:
        from callbacks.settings import load_settings  # noqa: PLC0415 - keeps pydantic out of the import

        self.settings = settings or load_settings()
        self.id = mint_id() if id is None else check_id(id)
        self.request = freeze(
            callback_url,
            data,
            event=event,
            environment=self.settings.environment if environment is None else environment,
            headers=headers,
            lane=lane,
            settings=self.settings,
            now=now or datetime.now(UTC),
        )

    @classmethod
    def stored(cls, id: str, request: Request, settings: Settings) -> AICallback:
        """Make a callback from a request that was frozen at enqueue."""
        callback = cls.__new__(cls)
        callback.id, callback.request, callback.settings = id, request, settings
        return callback

    @property
    def secrets(self) -> tuple[str, ...]:
        """The secrets that sign this callback: the resolver's, its environment's, or the default.

        Raises `SecretResolverError` if the resolver fails. It runs in this thread, without a
        timeout.
        """
        return self._secrets(lambda ask: ask_resolver(*ask))

    @property
    def signable(self) -> bool:
        """Whether it can be signed or need not be; True if the resolver fails: it may recover."""
        if not self.settings.signing_configured:
            return True
        try:
            return bool(self.secrets)
        except SecretResolverError:
            return True

    def _secrets(self, resolve: Callable[[_Ask], tuple[str, ...]]) -> tuple[str, ...]:
        path, environment = self.settings.secret_resolver, self.request.environment
        if not path:
            return self.settings.secrets_for(environment)
        return resolve((path, self.request.callback_url, environment))

    def _in_time(self, ask: _Ask, *, proven: bool) -> tuple[str, ...]:
        """Ask the resolver in another thread, for at most half of the attempt's deadline."""
        try:
            return _RESOLUTIONS.result(ask, Deadline(self.settings.deadline / 2), proven=proven)
        except (TimeoutError, TooManyHang) as error:
            raise SecretResolverError(f"{ask[0]}: {error}") from error

    def headers(self, *, attempt: int, timestamp_s: int, proven: bool = False) -> dict[str, str]:
        """All headers of one attempt, signed if secrets are configured.

        Raises `SecretResolverError`, also if there is no secret any more: a callback that has to
        be signed is never sent unsigned.
        """
        secrets = self._secrets(partial(self._in_time, proven=proven))
        if self.settings.signing_configured and not secrets:
            raise SecretResolverError("there is no secret for this callback any more")
        return request_headers(
            self.request,
            id=self.id,
            attempt=attempt,
            timestamp_s=timestamp_s,
            secrets=secrets,
            version=__version__,
        )

    def send(
        self,
        *,
        attempt: int = 1,
        timestamp_s: int | None = None,
        sender: Sender | None = None,
        proven: bool = False,
        trace_headers: Mapping[str, str] = MappingProxyType({}),
    ) -> Answer:
        """Make one attempt and return its answer; decides and stores nothing.

        Its `said` is one line without secrets of ours, 200 characters at most. `trace_headers` go
        out too, unless the callback has its own. `proven`: the
        receiver has answered lately, so the name lookup and the call of the resolver
        do not queue behind those of receivers that hang. If the secret resolver fails, hangs or
        returns none, nothing is sent, and the answer's fault is `no_secret`.
        """
        moment = int(time.time()) if timestamp_s is None else timestamp_s
        began = time.monotonic()
        try:
            headers = self.headers(attempt=attempt, timestamp_s=moment, proven=proven)
        except SecretResolverError as error:
            return Answer(None, Reason.NO_SECRET, str(error))
        if trace_headers:
            own = {name.lower() for name, _ in self.request.headers}
            headers |= {name: v for name, v in trace_headers.items() if name not in own}
        sender = sender or shared_transport(self.settings)
        spent_s = time.monotonic() - began if self.settings.secret_resolver else 0
        request = self.request
        answer = sender.post(
            request.callback_url, headers, request.body, spent_s=spent_s, proven=proven
        )
        if spent_s:
            answer = replace(answer, resolver=round(spent_s, 3))
        return self._redacted(answer, headers) if answer.said else answer

    def _redacted(self, answer: Answer, headers: Mapping[str, str]) -> Answer:
        """The answer without what it repeats of ours, and shortened to what is shown."""
        secrets = self.settings.secrets_for(self.request.environment)
        ours = own_values(self.request, headers.get("webhook-signature", ""), secrets)
        return replace(answer, said=excerpt(answer.said, ours))
