"""Every setting of `callbacks`: read from the environment once, validated, then frozen.

A variable that is set but blank counts as not set. No file is read. What the application sets in
code (see `in_code`) counts where there is no variable.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Final, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from callbacks.model import SettingsError
from callbacks.redis_url import Form, RedisPlace, read, without_password
from callbacks.settings.in_code import values_in_code
from callbacks.settings.variables import (
    Actor,
    Environment,
    Hosts,
    LogFormat,
    Namespace,
    Networks,
    RedisUrl,
    Resolver,
    Schedule,
    Secrets,
    Switch,
    WaitFor,
    WebToken,
    seconds,
    share,
    whole,
)

# The time from an attempt's deadline to the end of its lease, for settling it in Redis.
ATTEMPT_MARGIN_S: Final = 5.0
# How much longer than an attempt's lease `CALLBACKS_STUCK_AFTER` must be.
STUCK_MARGIN_S: Final = 2.0

#: Of the names of all variables but `REDIS_URL`.
PREFIX: Final = "CALLBACKS_"
_SECRET: Final = "CALLBACKS_SECRET"
_RESOLVER: Final = "CALLBACKS_SECRET_RESOLVER"
_SHOWN_CHARS: Final = 100  # of a bad value
_ENVIRONMENT_SECRET: Final = re.compile(_SECRET + r"_([A-Z0-9](?:[A-Z0-9_]{0,62}[A-Z0-9])?)")
_HEROKU_ENDING: Final = re.compile(r"-(staging|dev|review|pr-[0-9]+)$")

#: Default of `CALLBACKS_SHARDS` on a Redis or Valkey Cluster.
_CLUSTER_SHARDS: Final = 16

_HOUR: Final = 3_600
_DAY: Final = 86_400


class Settings(BaseModel):
    """All settings; each field is the variable `CALLBACKS_<FIELD>`, durations are seconds."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        validate_default=True,
        use_attribute_docstrings=True,
        hide_input_in_errors=True,  # an input may be a secret
    )

    redis_url: RedisUrl = Field(default="redis://127.0.0.1:6379/0", repr=False)
    """What stores everything: one Redis, the one that Sentinels name, or a cluster."""
    redis_tls_verify: Switch = True
    """`false` for Heroku Key-Value Store's self-signed certificates."""
    redis_max_connections: Annotated[int, whole(1, 1_000)] = 4
    """Maximum connections per process, broker and batcher together."""
    redis_timeout: Annotated[float, seconds(0.05, 60)] = 5.0
    """For connecting to Redis and for each of its commands."""
    wait_for: WaitFor = ""
    """`aof`, `replica`, `aof+replica`: `enqueue` returns only once Redis says that it is there."""
    wait_timeout: Annotated[float, seconds(0.01, 30)] = 1.0
    """How long `enqueue` waits for that; shorter than `CALLBACKS_REDIS_TIMEOUT`."""
    namespace: Namespace = "callbacks"
    """Prefix of every key, Dramatiq's too."""
    shards: Annotated[int, whole(1, 64)] = 1
    """Parts over which destinations are spread (16 on a cluster); fixed at first use."""

    batch_size: Annotated[int, whole(1, 1_000)] = 100
    """Maximum batch size; a batch is due when this many are ready."""
    max_delay: Annotated[float, seconds(0, _HOUR)] = 5.0
    """The longest a callback waits for its batch; `0` sends at once."""
    min_interval: Annotated[float, seconds(0, _HOUR)] = 0.5
    """The shortest time from one batch to the next."""
    check_interval: Annotated[float, seconds(0.05, _HOUR)] = 3.0
    """How often `check_and_flush` looks."""

    send_interval: Annotated[float, seconds(0, _HOUR)] = 0.2
    """The stagger: initial time between two sends; `0` turns it off."""
    destination_interval: Annotated[float, seconds(0, _HOUR)] = 0.2
    """Initial time between two sends to one destination; `0` turns it off."""
    destination_concurrency: Annotated[int, whole(0, 10_000)] = 4
    """Maximum requests in flight to one destination, over all processes; `0`: no limit."""
    shared_hosts: Hosts = frozenset()
    """Hosts that serve many customers: each URL there, without its query, is a destination."""

    unproven_share: Annotated[float, share()] = 0.5
    """Maximum share of all places for destinations that have not answered lately, together."""

    breaker_failures: Annotated[int, whole(0, 10_000)] = 5
    """Consecutive faults that open a destination's breaker; `0`: no breaker."""
    breaker_open_min: Annotated[float, seconds(0.05, _DAY)] = 30.0
    """How long a breaker stays open the first time; doubles each time."""
    breaker_open_max: Annotated[float, seconds(0.05, _DAY)] = 600.0
    """How long a breaker stays open at most."""

    refused_hold: Annotated[int, whole(0, 10_000)] = 20
    """Deaths in a row by 401, 403 or 404 that hold a destination like a breaker; `0`: never."""

    adaptive: Switch = True
    """Adapt the stagger to backlog and failures, a destination's interval to its answers."""
    send_interval_min: Annotated[float, seconds(0.001, _HOUR)] = 0.005
    """Lower bound of the stagger while it adapts."""
    send_interval_max: Annotated[float, seconds(0.001, _HOUR)] = 5.0
    """Upper bound of the stagger while it adapts."""
    destination_interval_min: Annotated[float, seconds(0.001, _HOUR)] = 0.02
    """Lower bound of one destination's interval while it adapts."""
    destination_interval_max: Annotated[float, seconds(0.001, _HOUR)] = 30.0
    """Upper bound of one destination's interval while it adapts."""
    drain_target: Annotated[float, seconds(1, _DAY)] = 60.0
    """How fast the stagger tries to drain a backlog."""

    max_retries: Annotated[int, whole(0, 100)] = 2
    """Retries after the first attempt."""
    retry_increment: Annotated[float, seconds(0, _DAY)] = 30.0
    """The n-th retry waits n times this."""
    retry_schedule: Schedule = ()
    """The delay before each retry, e.g. `5,300,1800`: replaces the two above."""
    retry_client_errors: Switch = False
    """Also retry other 4xx, instead of failing at once."""
    retry_after_max: Annotated[float, seconds(0, 7 * _DAY)] = 3_600.0
    """The longest a receiver's `Retry-After` may park its destination."""
    max_age: Annotated[float, seconds(0.05, 366 * _DAY)] = 86_400.0
    """A callback not sent by then is dead, reason `expired`."""
    stuck_after: Annotated[float, seconds(1, _DAY)] = 300.0
    """How long past its due time a callback may stay in PROCESSING before it is reclaimed."""

    # More than 11 s also needs a longer --worker-shutdown-timeout, which counts twice and so
    # exceeds Heroku's 30 s: attempts that are cut off on shutdown are repeated.
    deadline: Annotated[float, seconds(0.05, 600)] = 10.0
    """Maximum duration of an attempt, including the name lookup."""
    connect_timeout: Annotated[float, seconds(0.05, 600)] = 3.0
    """For connecting to a receiver; at most the deadline."""
    read_timeout: Annotated[float, seconds(0.05, 600)] = 7.0
    """For each read from a receiver; at most the deadline."""

    secret: Secrets = Field(default=(), repr=False)
    """`whsec_...`; during a rotation several, separated by spaces, new one first."""
    environment_secrets: Mapping[str, Secrets] = Field(
        default_factory=lambda: MappingProxyType({}), repr=False
    )
    """The secret of one environment (`-` in its name becomes `_`)."""
    secret_resolver: Resolver = ""
    """`module:function(callback_url, environment) -> list of secrets`, called at each send."""
    on_dead: Actor = ""
    """Name of a Dramatiq actor that gets `(callback_id, reason)` when a callback dies."""
    environment: Environment = "production"
    """Inferred from `HEROKU_APP_NAME`, else `production`."""
    allowed_networks: Networks = ()
    """Non-public networks that may be reached, e.g. `127.0.0.0/8`."""
    https_only: Switch = False
    """Refuse `http://` at enqueue."""
    max_payload_bytes: Annotated[int, whole(1, 64 * 1024 * 1024)] = 262_144
    """A larger body is refused at enqueue."""
    max_queued: Annotated[int, whole(0, 10**9)] = 0
    """Above it `enqueue` raises `QueueFull`; `0`: only Redis' own memory limit counts."""

    sent_ttl: Annotated[float, seconds(0.05, 366 * _DAY)] = 86_400.0
    """How long a sent or cancelled callback's record (without its body) is kept."""
    dead_ttl: Annotated[float, seconds(0.05, 366 * _DAY)] = 604_800.0
    """How long a dead callback (with its body) is kept."""
    sent_max: Annotated[int, whole(0, 10**9)] = 100_000
    """Maximum number of sent records; the oldest are deleted first."""
    web_token: WebToken = Field(default="", repr=False)
    """Opens the console of `callbacks web`; without one, only numbers and charts are shown."""
    mask_paths: Switch = False
    """Show the paths of URLs as digests in the console, for hosts where the path is the secret."""
    pin_cores: Switch = False
    """Keep each worker process on one core, if it runs threads and no core gets two."""
    log_format: LogFormat = "logfmt"
    """`logfmt`, `json` or `console`."""
    figures_interval: Annotated[float, seconds(0, _DAY)] = 60.0
    """How often one process logs sizes, rates and health; `0`: never."""
    traceparent: Switch = False
    """Send the trace's context (`traceparent`, `tracestate`) to receivers."""

    warnings: tuple[str, ...] = ()
    """One line for each misspelt `CALLBACKS_...` name; whoever starts a process logs them."""

    @field_validator("connect_timeout", "read_timeout")
    @classmethod
    def _cut_to_deadline(cls, value: float, info: ValidationInfo) -> float:
        deadline: float = info.data.get("deadline", value)  # absent if it is invalid
        return min(value, deadline)

    @field_validator("environment_secrets")
    @classmethod
    def _freeze(cls, value: Mapping[str, Secrets]) -> Mapping[str, Secrets]:
        return MappingProxyType(dict(value))

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        problems = [
            f"{variable_of(low)} is {getattr(self, low):g} and {variable_of(high)} is "
            f"{getattr(self, high):g}, expected the first to be at most the second"
            for low, high in _ORDERED
            if getattr(self, low) > getattr(self, high)
        ]
        shortest = self.attempt_lease + STUCK_MARGIN_S
        if self.stuck_after < shortest:
            problems.append(
                f"CALLBACKS_STUCK_AFTER is {self.stuck_after:g}, expected at least {shortest:g}, "
                f"{ATTEMPT_MARGIN_S + STUCK_MARGIN_S:g} more than CALLBACKS_DEADLINE"
            )
        if self.wait_for and self.wait_timeout >= self.redis_timeout:
            problems.append(
                f"CALLBACKS_WAIT_TIMEOUT is {self.wait_timeout:g}, expected less than "
                f"CALLBACKS_REDIS_TIMEOUT, {self.redis_timeout:g}"
            )
        waits = sum(self.retry_schedule)
        if waits >= self.max_age:
            problems.append(
                f"CALLBACKS_RETRY_SCHEDULE waits for {waits:g} s in all, expected less than "
                f"CALLBACKS_MAX_AGE, {self.max_age:g}: its last retries would come too late"
            )
        if problems:
            raise ValueError("; ".join(problems))
        return self

    @property
    def redis_address(self) -> str:
        """The Redis URL for output: without user info and query."""
        return without_password(self.redis_url)

    @property
    def redis_place(self) -> RedisPlace:
        """The Redis URL, taken apart."""
        return read(self.redis_url)

    @property
    def on_cluster(self) -> bool:
        """Whether keys are spread over the nodes of a cluster."""
        return self.redis_place.form is Form.CLUSTER

    @property
    def message_namespace(self) -> str:
        """The prefix of Dramatiq's keys: on a cluster in braces, which put all in one slot."""
        return f"{{{self.namespace}}}" if self.on_cluster else self.namespace

    @property
    def retry_delays(self) -> tuple[float, ...]:
        """Seconds to wait before each retry."""
        retries = range(1, self.max_retries + 1)
        return self.retry_schedule or tuple(n * self.retry_increment for n in retries)

    @property
    def longest_interval(self) -> float:
        """The longest that the stagger or a destination's interval can get, in seconds."""
        fixed = (self.send_interval, self.destination_interval)
        return max(*fixed, self.send_interval_max, self.destination_interval_max)

    @property
    def attempt_lease(self) -> float:
        """Seconds from its begin after which an attempt counts as crashed."""
        return self.deadline + ATTEMPT_MARGIN_S

    @property
    def signing_configured(self) -> bool:
        """Whether there is any secret or a resolver."""
        return bool(self.secret or self.environment_secrets or self.secret_resolver)

    def secrets_for(self, environment: str) -> tuple[str, ...]:
        """The environment's own secrets if it has any, else the default ones."""
        return self.environment_secrets.get(_upper(environment)) or self.secret


_ORDERED: Final = (
    ("breaker_open_min", "breaker_open_max"),
    ("send_interval_min", "send_interval_max"),
    ("destination_interval_min", "destination_interval_max"),
)


@dataclass(frozen=True, slots=True)
class Variable:
    """The documentation of one environment variable."""

    default: str
    meaning: str


def variable_of(field: str) -> str:
    """The variable of a field."""
    return PREFIX + field.upper()


def secret_variable(environment: str) -> str:
    """The variable of an environment's secret."""
    return f"{_SECRET}_{_upper(environment)}"


# These two have no variable of that name: one stands for many, the other is set when loading.
_FIELDS: Final = tuple(
    name for name in Settings.model_fields if name not in ("environment_secrets", "warnings")
)
_NAMES: Final = frozenset(map(variable_of, _FIELDS))
_IN_CODE: Final = (*_FIELDS, "environment_secrets")


def _variables() -> Mapping[str, Variable]:
    defaults = {name: Settings.model_fields[name].default for name in _FIELDS}
    shown = {name: _default_text(default) for name, default in defaults.items()}
    shown["environment"] = "inferred"
    variables = {variable_of(name): Variable(shown[name], _meaning(name)) for name in _FIELDS}
    variables["REDIS_URL"] = variables[variable_of("redis_url")]
    variables[f"{_SECRET}_<ENVIRONMENT>"] = Variable("empty", _meaning("environment_secrets"))
    return MappingProxyType(variables)


def _meaning(field: str) -> str:
    return Settings.model_fields[field].description or ""


def _default_text(default: object) -> str:
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, float):
        return f"{default:.15g}"
    return str(default) if default or default == 0 else "empty"


VARIABLES: Final = _variables()
"""Every public variable with its default as text and its meaning."""


def load_settings(
    environ: Mapping[str, str] | None = None, *, in_code: Mapping[str, object] | None = None
) -> Settings:
    """Load the settings from `environ`, and those that have no variable there from `in_code`.

    By default from the environment of this process and what its application has set in code; with
    an `environ`, from that alone. Raises SettingsError: one line that names each bad variable or
    field, its value unless that is a secret, and what is allowed.
    """
    if environ is None:
        environ, in_code = os.environ, values_in_code() if in_code is None else in_code
    check_fields(in_code or {})
    code = {name: value for name, value in (in_code or {}).items() if value is not None}
    given = _given(environ)
    sources = _sources(given)
    raw = code | {field: given[name] for field, name in sources.items()}
    if "cluster" in str(raw.get("redis_url", "")).partition(":")[0]:
        raw.setdefault("shards", str(_CLUSTER_SHARDS))
    raw["environment"] = _environment(given, code)
    raw["environment_secrets"] = _environment_secrets(given, code)
    raw["warnings"] = tuple(_warning(name, nearest) for name, nearest in unknown_names(given))
    try:
        return Settings.model_validate(raw)
    except ValidationError as error:
        problems = [
            _problem(
                item["loc"], item.get("ctx", {}).get("error", item["msg"]), sources, given, code
            )
            for item in error.errors(include_url=False)
        ]
    # Raised outside the handler, so that no traceback shows pydantic's error with its inputs.
    raise SettingsError("; ".join(problems))


def check_fields(code: Mapping[str, object]) -> None:
    """Raise `SettingsError` for a name that is no field."""
    for name in code:
        if name not in _IN_CODE:
            nearest = difflib.get_close_matches(name.lower(), _IN_CODE, n=1)
            hint = f"; did you mean {nearest[0]}?" if nearest else ""
            raise SettingsError(f"{name} is not a setting of callbacks{hint}")


def unknown_names(environ: Mapping[str, str]) -> list[tuple[str, str | None]]:
    """Each name that looks like a setting but is none, with the nearest real name."""
    return [(name, _nearest(name)) for name in sorted(environ) if _is_misspelt(name)]


def _given(environ: Mapping[str, str]) -> dict[str, str]:
    return {name: text.strip() for name, text in environ.items() if text.strip()}


def _sources(given: Mapping[str, str]) -> dict[str, str]:
    """The variable of each field that is set."""
    sources = {field: variable_of(field) for field in _FIELDS if variable_of(field) in given}
    if "REDIS_URL" in given:
        sources.setdefault("redis_url", "REDIS_URL")
    return sources


def _environment(given: Mapping[str, str], code: Mapping[str, object]) -> object:
    named = given.get(variable_of("environment"), code.get("environment"))
    if named is not None:
        return named
    ending = _HEROKU_ENDING.search(given.get("HEROKU_APP_NAME", ""))
    if ending is None:
        return "production"
    return "review" if ending[1].startswith("pr-") else ending[1]


def _environment_secrets(given: Mapping[str, str], code: Mapping[str, object]) -> object:
    in_code = code.get("environment_secrets", {})
    if not isinstance(in_code, Mapping):
        return in_code
    secrets = {_upper(str(name)): secret for name, secret in in_code.items()}
    matches = map(_ENVIRONMENT_SECRET.fullmatch, given.keys() - _NAMES)
    return secrets | {match[1]: given[match[0]] for match in matches if match}


def _upper(environment: str) -> str:
    """An environment as it stands in the name of its variable."""
    return environment.upper().replace("-", "_")


def _problem(
    loc: tuple[int | str, ...],
    allowed: object,
    sources: Mapping[str, str],
    given: Mapping[str, str],
    code: Mapping[str, object],
) -> str:
    if not loc:
        return str(allowed)  # a rule between settings: the text already names them
    field = str(loc[0])
    if field == "environment_secrets":
        return _secret_problem(loc[1:], allowed, given)
    name = sources.get(field)
    if name is None:
        return f"{field} {_shown(field, code[field])}, expected {allowed}"
    return f"{name} {_shown(field, given[name])}, expected {allowed}"


def _secret_problem(place: tuple[int | str, ...], allowed: object, given: Mapping[str, str]) -> str:
    """The problem with the secret of one environment, or if `place` is empty, with all of them."""
    if not place:
        return "environment_secrets is not valid, expected secrets by environment"
    name = f"{_SECRET}_{place[0]}"
    if name not in given:
        return f"environment_secrets[{place[0]!r}] is not valid, expected {allowed}"
    hint = difflib.get_close_matches(name, [_RESOLVER], cutoff=0.9)
    return f"{name} is not valid, expected {allowed}" + "".join(f" (or {h}?)" for h in hint)


def _shown(field: str, value: object) -> str:
    # A secret may be in the wrong variable, e.g. in that of the resolver.
    if field in ("secret", "web_token") or "whsec_" in str(value):
        return "is not valid"
    if not isinstance(value, str):
        return f"is {repr(value)[:_SHOWN_CHARS]}"
    shown = without_password(value) if field == "redis_url" else value
    return f"is {shown[:_SHOWN_CHARS]!r}"


def _is_misspelt(name: str) -> bool:
    if name in _NAMES or _ENVIRONMENT_SECRET.fullmatch(name):
        return False
    upper = name.upper()
    return upper.startswith(PREFIX) or _with_prefix(upper) in _NAMES


def _with_prefix(name: str) -> str:
    """Correct the likeliest typo: CALLBACK_BATCH_SIZE becomes CALLBACKS_BATCH_SIZE."""
    return name.replace("CALLBACK_", PREFIX, 1) if name.startswith("CALLBACK_") else name


def _nearest(name: str) -> str | None:
    upper = _with_prefix(name.upper())
    if upper in _NAMES or _ENVIRONMENT_SECRET.fullmatch(upper):
        return upper
    # Compared without the common prefix, which would make all names similar.
    endings = [known.removeprefix(PREFIX) for known in sorted(_NAMES)]
    nearest = difflib.get_close_matches(upper.removeprefix(PREFIX), endings, n=1)
    return PREFIX + nearest[0] if nearest else None


def _warning(name: str, nearest: str | None) -> str:
    hint = f"; did you mean {nearest}?" if nearest else ""
    return f"{name} is not a setting of callbacks{hint}"
