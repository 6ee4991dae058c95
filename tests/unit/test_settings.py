"""Every variable: its value, what is refused, and how the error reads."""

from __future__ import annotations

import base64
from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from callbacks.model import SettingsError
from callbacks.redis_url import without_password
from callbacks.settings import VARIABLES, Settings, load_settings, unknown_names
from callbacks.units import ms

SECRET = "whsec_" + base64.b64encode(b"s" * 32).decode()
OTHER = "whsec_" + base64.b64encode(b"o" * 32).decode()

# The public table: variable, default as documented, default as used.
DEFAULTS = [
    ("CALLBACKS_REDIS_URL", "redis://127.0.0.1:6379/0", "redis://127.0.0.1:6379/0"),
    ("CALLBACKS_REDIS_TLS_VERIFY", "true", True),
    ("CALLBACKS_REDIS_MAX_CONNECTIONS", "4", 4),
    ("CALLBACKS_REDIS_TIMEOUT", "5", 5.0),
    ("CALLBACKS_WAIT_FOR", "empty", ""),
    ("CALLBACKS_WAIT_TIMEOUT", "1", 1.0),
    ("CALLBACKS_NAMESPACE", "callbacks", "callbacks"),
    ("CALLBACKS_SHARDS", "1", 1),
    ("CALLBACKS_BATCH_SIZE", "100", 100),
    ("CALLBACKS_MAX_DELAY", "5", 5.0),
    ("CALLBACKS_MIN_INTERVAL", "0.5", 0.5),
    ("CALLBACKS_CHECK_INTERVAL", "3", 3.0),
    ("CALLBACKS_SEND_INTERVAL", "0.2", 0.2),
    ("CALLBACKS_DESTINATION_INTERVAL", "0.2", 0.2),
    ("CALLBACKS_DESTINATION_CONCURRENCY", "4", 4),
    ("CALLBACKS_SHARED_HOSTS", "empty", frozenset()),
    ("CALLBACKS_UNPROVEN_SHARE", "0.5", 0.5),
    ("CALLBACKS_BREAKER_FAILURES", "5", 5),
    ("CALLBACKS_BREAKER_OPEN_MIN", "30", 30.0),
    ("CALLBACKS_BREAKER_OPEN_MAX", "600", 600.0),
    ("CALLBACKS_REFUSED_HOLD", "20", 20),
    ("CALLBACKS_ADAPTIVE", "true", True),
    ("CALLBACKS_SEND_INTERVAL_MIN", "0.005", 0.005),
    ("CALLBACKS_SEND_INTERVAL_MAX", "5", 5.0),
    ("CALLBACKS_DESTINATION_INTERVAL_MIN", "0.02", 0.02),
    ("CALLBACKS_DESTINATION_INTERVAL_MAX", "30", 30.0),
    ("CALLBACKS_DRAIN_TARGET", "60", 60.0),
    ("CALLBACKS_MAX_RETRIES", "2", 2),
    ("CALLBACKS_RETRY_INCREMENT", "30", 30.0),
    ("CALLBACKS_RETRY_SCHEDULE", "empty", ()),
    ("CALLBACKS_RETRY_CLIENT_ERRORS", "false", False),
    ("CALLBACKS_RETRY_AFTER_MAX", "3600", 3_600.0),
    ("CALLBACKS_MAX_AGE", "86400", 86_400.0),
    ("CALLBACKS_STUCK_AFTER", "300", 300.0),
    ("CALLBACKS_CONNECT_TIMEOUT", "3", 3.0),
    ("CALLBACKS_READ_TIMEOUT", "7", 7.0),
    ("CALLBACKS_DEADLINE", "10", 10.0),
    ("CALLBACKS_SECRET", "empty", ()),
    ("CALLBACKS_SECRET_RESOLVER", "empty", ""),
    ("CALLBACKS_ON_DEAD", "empty", ""),
    ("CALLBACKS_ENVIRONMENT", "inferred", "production"),
    ("CALLBACKS_ALLOWED_NETWORKS", "empty", ()),
    ("CALLBACKS_HTTPS_ONLY", "false", False),
    ("CALLBACKS_MAX_PAYLOAD_BYTES", "262144", 262_144),
    ("CALLBACKS_MAX_QUEUED", "0", 0),
    ("CALLBACKS_SENT_TTL", "86400", 86_400.0),
    ("CALLBACKS_DEAD_TTL", "604800", 604_800.0),
    ("CALLBACKS_SENT_MAX", "100000", 100_000),
    ("CALLBACKS_WEB_TOKEN", "empty", ""),
    ("CALLBACKS_MASK_PATHS", "false", False),
    ("CALLBACKS_PIN_CORES", "false", False),
    ("CALLBACKS_LOG_FORMAT", "logfmt", "logfmt"),
    ("CALLBACKS_FIGURES_INTERVAL", "60", 60.0),
    ("CALLBACKS_TRACEPARENT", "false", False),
]


def _refusal(**environ: str) -> str:
    with pytest.raises(SettingsError) as caught:
        load_settings(environ)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(("variable", "shown", "used"), DEFAULTS)
def test_without_any_variable_each_setting_has_its_documented_default(
    variable: str, shown: str, used: object
) -> None:
    settings = load_settings({})

    assert getattr(settings, variable.removeprefix("CALLBACKS_").lower()) == used
    assert VARIABLES[variable].default == shown


def test_the_table_for_the_documentation_has_every_variable_and_its_meaning() -> None:
    listed = {variable for variable, _, _ in DEFAULTS}

    assert set(VARIABLES) == listed | {"REDIS_URL", "CALLBACKS_SECRET_<ENVIRONMENT>"}
    assert all(variable.meaning for variable in VARIABLES.values())


@pytest.mark.parametrize(
    ("variable", "text", "value"),
    [
        ("CALLBACKS_REDIS_URL", "rediss://:pw@h:6380/1", "rediss://:pw@h:6380/1"),
        ("CALLBACKS_REDIS_URL", "unix:///run/redis.sock?db=1", "unix:///run/redis.sock?db=1"),
        ("CALLBACKS_REDIS_URL", "redis://[::1]", "redis://[::1]"),
        ("CALLBACKS_REDIS_URL", "redis://h?db=3", "redis://h?db=3"),
        (
            "CALLBACKS_REDIS_URL",
            "rediss://h/1?ssl_ca_certs=/etc/ca.pem",
            "rediss://h/1?ssl_ca_certs=/etc/ca.pem",
        ),
        ("CALLBACKS_REDIS_TLS_VERIFY", "No", False),
        ("CALLBACKS_ADAPTIVE", "0", False),
        ("CALLBACKS_HTTPS_ONLY", "on", True),
        ("CALLBACKS_RETRY_CLIENT_ERRORS", "YES", True),
        ("CALLBACKS_NAMESPACE", "my-app.v2_x", "my-app.v2_x"),
        ("CALLBACKS_BATCH_SIZE", " 25 ", 25),
        ("CALLBACKS_MAX_DELAY", "0", 0.0),
        ("CALLBACKS_MAX_DELAY", "0.001", 0.001),
        ("CALLBACKS_SEND_INTERVAL", "1e-2", 0.01),
        ("CALLBACKS_MAX_RETRIES", "0", 0),
        ("CALLBACKS_RETRY_SCHEDULE", "5,300, 1800", (5.0, 300.0, 1_800.0)),
        (
            "CALLBACKS_SHARED_HOSTS",
            "Hooks.Slack.com bücher.example,hooks.zapier.com",
            frozenset({"hooks.slack.com", "xn--bcher-kva.example", "hooks.zapier.com"}),
        ),
        (
            "CALLBACKS_ALLOWED_NETWORKS",
            "127.0.0.0/8, fd00::/8 10.1.2.3",
            (ip_network("127.0.0.0/8"), ip_network("fd00::/8"), ip_network("10.1.2.3/32")),
        ),
        ("CALLBACKS_SECRET", f"{OTHER} {SECRET}", (OTHER, SECRET)),
        ("CALLBACKS_SECRET_RESOLVER", "my_app.hooks:secrets.find", "my_app.hooks:secrets.find"),
        ("CALLBACKS_ON_DEAD", "tell_support", "tell_support"),
        ("CALLBACKS_ENVIRONMENT", "pr-12", "pr-12"),
        ("CALLBACKS_PIN_CORES", "true", True),
        ("CALLBACKS_MASK_PATHS", "on", True),
        ("CALLBACKS_WEB_TOKEN", "8-tokens", "8-tokens"),
        ("CALLBACKS_LOG_FORMAT", "json", "json"),
    ],
)
def test_a_variable_becomes_a_value(variable: str, text: str, value: object) -> None:
    settings = load_settings({variable: text})

    assert getattr(settings, variable.removeprefix("CALLBACKS_").lower()) == value


@pytest.mark.parametrize(
    ("variable", "text", "allowed"),
    [
        ("CALLBACKS_REDIS_URL", "http://localhost", "redis://host:port/db, rediss://"),
        ("CALLBACKS_REDIS_URL", "localhost:6379", "redis://host:port/db"),
        ("CALLBACKS_REDIS_URL", "redis:///0", "redis://host:port/db"),
        ("CALLBACKS_REDIS_URL", "redis://h/first", "redis://host:port/db"),
        ("CALLBACKS_REDIS_URL", "redis://h/0#x", "redis://host:port/db"),
        ("CALLBACKS_REDIS_TLS_VERIFY", "maybe", "true, false, yes, no, on, off, 1 or 0"),
        ("CALLBACKS_REDIS_MAX_CONNECTIONS", "0", "a whole number from 1 to 1000"),
        ("CALLBACKS_WAIT_FOR", "disk", "aof, replica or aof+replica"),
        ("CALLBACKS_NAMESPACE", "a{b}", "letters, digits, '_', '.' and '-'"),
        ("CALLBACKS_NAMESPACE", "a:b", "letters, digits, '_', '.' and '-'"),
        ("CALLBACKS_BATCH_SIZE", "0", "a whole number from 1 to 1000"),
        ("CALLBACKS_BATCH_SIZE", "10.5", "a whole number from 1 to 1000"),
        ("CALLBACKS_BATCH_SIZE", "ten", "a whole number from 1 to 1000"),
        ("CALLBACKS_MAX_DELAY", "-1", "0, or 0.001 to 3600 seconds, without a unit (such as 2.5)"),
        (
            "CALLBACKS_MAX_DELAY",
            "0.0004",
            "0, or 0.001 to 3600 seconds, without a unit (such as 2.5)",
        ),
        ("CALLBACKS_MAX_DELAY", "nan", "0, or 0.001 to 3600 seconds, without a unit (such as 2.5)"),
        ("CALLBACKS_MAX_DELAY", "inf", "0, or 0.001 to 3600 seconds, without a unit (such as 2.5)"),
        ("CALLBACKS_MAX_DELAY", "5s", "0, or 0.001 to 3600 seconds, without a unit (such as 2.5)"),
        ("CALLBACKS_DEADLINE", "0", "0.05 to 600 seconds"),
        ("CALLBACKS_RETRY_SCHEDULE", "5,x", "at most 100 waits such as 5,300,1800"),
        ("CALLBACKS_RETRY_SCHEDULE", "1 " * 101, "at most 100 waits"),
        ("CALLBACKS_SHARED_HOSTS", "https://hooks.slack.com", "host names such as"),
        ("CALLBACKS_ALLOWED_NETWORKS", "10.0.0.1/8", "without bits past the prefix"),
        ("CALLBACKS_ALLOWED_NETWORKS", "localhost", "CIDRs such as 10.0.0.0/8"),
        ("CALLBACKS_SECRET_RESOLVER", "my_app.hooks", "module:function"),
        ("CALLBACKS_SECRET_RESOLVER", "my-app:secrets", "module:function"),
        ("CALLBACKS_ON_DEAD", "tell support", "the name of a Dramatiq actor"),
        ("CALLBACKS_ENVIRONMENT", "Production", "lower-case letters, digits and inner hyphens"),
        ("CALLBACKS_ENVIRONMENT", "a_b", "lower-case letters"),
        ("CALLBACKS_ENVIRONMENT", "-a", "lower-case letters"),
        ("CALLBACKS_ENVIRONMENT", "resolver", "and not 'resolver'"),
        ("CALLBACKS_LOG_FORMAT", "xml", "logfmt, json or console"),
    ],
)
def test_a_bad_value_is_named_with_its_variable_and_what_is_allowed(
    variable: str, text: str, allowed: str
) -> None:
    refusal = _refusal(**{variable: text})

    assert refusal.startswith(f"{variable} is {text.strip()[:100]!r}, expected ")
    assert allowed in refusal


def test_several_bad_values_are_named_in_one_line() -> None:
    refusal = _refusal(CALLBACKS_BATCH_SIZE="0", CALLBACKS_ADAPTIVE="si\nno", REDIS_URL="x")

    first, second, third = refusal.split("; ")
    assert first.startswith("REDIS_URL is 'x', expected ")
    assert second.startswith("CALLBACKS_BATCH_SIZE is '0', expected ")
    assert third.startswith("CALLBACKS_ADAPTIVE is 'si\\nno', expected ")


def test_a_variable_that_is_blank_counts_as_not_set() -> None:
    blank = dict.fromkeys(VARIABLES, " ")

    assert load_settings(blank) == load_settings({})


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"REDIS_URL": "redis://a"}, "redis://a"),
        ({"REDIS_URL": "redis://a", "CALLBACKS_REDIS_URL": "redis://b"}, "redis://b"),
        ({"REDIS_URL": "redis://a", "CALLBACKS_REDIS_URL": ""}, "redis://a"),
        ({"REDIS_URL": "nonsense", "CALLBACKS_REDIS_URL": "redis://b"}, "redis://b"),
    ],
)
def test_our_own_redis_url_comes_before_the_common_one(
    environ: dict[str, str], expected: str
) -> None:
    assert load_settings(environ).redis_url == expected


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, "production"),
        ({"HEROKU_APP_NAME": "shop"}, "production"),
        ({"HEROKU_APP_NAME": "shop-staging"}, "staging"),
        ({"HEROKU_APP_NAME": "shop-dev"}, "dev"),
        ({"HEROKU_APP_NAME": "shop-review"}, "review"),
        ({"HEROKU_APP_NAME": "shop-pr-127"}, "review"),
        ({"HEROKU_APP_NAME": "shop-pr-"}, "production"),
        ({"HEROKU_APP_NAME": "shop-staging-eu"}, "production"),
        ({"HEROKU_APP_NAME": "shopdev"}, "production"),
        ({"HEROKU_APP_NAME": "shop-dev", "CALLBACKS_ENVIRONMENT": "qa"}, "qa"),
    ],
)
def test_the_environment_is_the_one_named_else_that_of_the_apps_name(
    environ: dict[str, str], expected: str
) -> None:
    assert load_settings(environ).environment == expected


def test_an_environment_with_secrets_of_its_own_is_not_signed_with_those_for_all() -> None:
    settings = load_settings({"CALLBACKS_SECRET": SECRET, "CALLBACKS_SECRET_PR_12": OTHER})

    assert settings.secrets_for("pr-12") == (OTHER,)
    assert settings.secrets_for("production") == (SECRET,)
    assert settings.warnings == ()


@pytest.mark.parametrize(
    ("environ", "configured"),
    [
        ({}, False),
        ({"CALLBACKS_SECRET": SECRET}, True),
        ({"CALLBACKS_SECRET_STAGING": SECRET}, True),
        ({"CALLBACKS_SECRET_RESOLVER": "app:secrets"}, True),
    ],
)
def test_signing_is_configured_by_any_secret_and_by_a_resolver(
    environ: dict[str, str], configured: bool
) -> None:
    assert load_settings(environ).signing_configured is configured


def test_the_resolver_is_no_environments_secret() -> None:
    settings = load_settings({"CALLBACKS_SECRET_RESOLVER": "app:secrets"})

    assert settings.environment_secrets == {}
    assert settings.secret_resolver == "app:secrets"


@pytest.mark.parametrize(
    "variable", ["CALLBACKS_SECRET", "CALLBACKS_SECRET_STAGING", "CALLBACKS_SECRET_RESOLVER"]
)
@pytest.mark.parametrize("secret", ["whsec_hush", f"{SECRET} whsec_hush"])
def test_a_bad_secret_is_refused_without_repeating_it(variable: str, secret: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings({variable: secret})

    assert str(caught.value).startswith(f"{variable} is not valid, expected ")
    assert "hush" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_a_misspelt_resolver_is_pointed_out_where_it_is_no_secret() -> None:
    refusal = _refusal(CALLBACKS_SECRET_RESOLVR="app:secrets")

    assert "CALLBACKS_SECRET_RESOLVR is not valid" in refusal
    assert refusal.endswith("(or CALLBACKS_SECRET_RESOLVER?)")


def test_settings_show_no_secret_and_no_redis_password() -> None:
    settings = load_settings(
        {
            "CALLBACKS_SECRET": SECRET,
            "CALLBACKS_SECRET_STAGING": OTHER,
            "REDIS_URL": "redis://user:hush@localhost",
        }
    )

    for shown in (repr(settings), str(settings)):
        assert "whsec_" not in shown
        assert "hush" not in shown


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://h:6379/0", "redis://h:6379/0"),
        ("rediss://user:hush@h:6379/0", "rediss://h:6379/0"),
        ("redis://:hu@sh/hush@h", "redis://h"),
        ("redis://h/0?password=hush", "redis://h/0"),
        ("redis://h/0?password=hu@sh?hush@x", "redis://x"),
        ("unix://:hush@/run/redis.sock?db=1", "unix:///run/redis.sock"),
        ("redis://:hush/0", "redis://..."),
        ("user:hush@h", "h"),
    ],
)
def test_a_redis_url_is_shown_without_its_password(url: str, shown: str) -> None:
    assert without_password(url) == shown


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://h?decode_responses=true", ", not decode_responses"),
        ("redis://h?protocol=3", ", not protocol"),
        ("redis://h?nonsense", ", not nonsense"),
        ("redis://h?&", ""),
        ("redis://h?db=x", "; db once, as a number"),
        ("redis://h?db=", "; db once, as a number"),
        ("redis://h?db=1&db=2", "; db once, as a number"),
        ("redis://h/?socket_timeout=1", ", not socket_timeout (use CALLBACKS_REDIS_TIMEOUT)"),
        ("redis://h/1?db=2", "; the database once, as /db or as db"),
        ("redis://h?ssl_ca_certs=/ca.pem", "; certificates with rediss:// only"),
        ("rediss://h?ssl_ca_certs=a", "; ssl_ca_certs once, as an absolute path"),
        ("rediss://h?ssl_cert_reqs=no", ", not ssl_cert_reqs (use CALLBACKS_REDIS_TLS_VERIFY)"),
    ],
)
def test_an_option_of_a_redis_url_that_makes_no_sense_is_refused(url: str, expected: str) -> None:
    shown, allowed = url.partition("?")[0], "db, ssl_ca_certs, ssl_certfile and ssl_keyfile"
    refusal = f"REDIS_URL is {shown!r}, expected only {allowed} after the ?{expected}"
    assert _refusal(REDIS_URL=url) == refusal


def test_a_password_with_a_question_mark_is_not_shown_as_an_option() -> None:
    for url in ("redis://user:12?hush@h", "redis://user:12?hush=x@h", "redis://user:12?a=hush@h"):
        refusal = _refusal(REDIS_URL=url)
        assert "hush" not in refusal
        assert "not a" not in refusal
    assert "hush" not in _refusal(REDIS_URL="redis://:hush@h/0?nonsense=hush")


def test_a_schedule_that_outlasts_a_callbacks_age_is_refused() -> None:
    given = {"CALLBACKS_RETRY_SCHEDULE": "5,300,1800", "CALLBACKS_MAX_AGE": "2105"}
    assert _refusal(**given) == (
        "CALLBACKS_RETRY_SCHEDULE waits for 2105 s in all, expected less than CALLBACKS_MAX_AGE, "
        "2105: its last retries would come too late"
    )
    assert load_settings(given | {"CALLBACKS_MAX_AGE": "2106"}).retry_delays == (5, 300, 1_800)
    # The default retries suit the default age; a shorter age just allows fewer.
    assert load_settings({"CALLBACKS_MAX_AGE": "60"}).retry_delays == (30, 60)


def test_a_bad_redis_url_is_refused_without_its_password() -> None:
    assert _refusal(REDIS_URL="http://:hush@h:1/").startswith("REDIS_URL is 'http://h:1/', ")
    assert load_settings({"REDIS_URL": "redis://:hush@h:1/2"}).redis_address == "redis://h:1/2"


def test_the_nth_retry_waits_n_increments() -> None:
    assert load_settings({}).retry_delays == (30.0, 60.0)
    more = load_settings({"CALLBACKS_MAX_RETRIES": "4", "CALLBACKS_RETRY_INCREMENT": "0.5"})
    assert more.retry_delays == (0.5, 1.0, 1.5, 2.0)
    assert load_settings({"CALLBACKS_MAX_RETRIES": "0"}).retry_delays == ()


def test_a_schedule_replaces_number_and_increment_of_retries() -> None:
    environ = {"CALLBACKS_RETRY_SCHEDULE": "5,300,1800", "CALLBACKS_MAX_RETRIES": "0"}

    assert load_settings(environ).retry_delays == (5.0, 300.0, 1_800.0)


def test_connect_and_read_timeout_are_cut_to_the_deadline() -> None:
    settings = load_settings({"CALLBACKS_DEADLINE": "5", "CALLBACKS_CONNECT_TIMEOUT": "60"})

    assert (settings.connect_timeout, settings.read_timeout) == (5.0, 5.0)


def test_a_callback_is_stuck_no_sooner_than_an_attempt_can_be_settled() -> None:
    # A lease of 10 + 5 s for an attempt, and 2 s more: 17.
    assert load_settings({"CALLBACKS_STUCK_AFTER": "17"}).attempt_lease == 15.0
    assert _refusal(CALLBACKS_STUCK_AFTER="16.9") == (
        "CALLBACKS_STUCK_AFTER is 16.9, expected at least 17, 7 more than CALLBACKS_DEADLINE"
    )


@pytest.mark.parametrize(
    ("low", "high"),
    [
        ("CALLBACKS_BREAKER_OPEN_MIN", "CALLBACKS_BREAKER_OPEN_MAX"),
        ("CALLBACKS_SEND_INTERVAL_MIN", "CALLBACKS_SEND_INTERVAL_MAX"),
        ("CALLBACKS_DESTINATION_INTERVAL_MIN", "CALLBACKS_DESTINATION_INTERVAL_MAX"),
    ],
)
def test_a_lower_bound_is_at_most_its_upper_bound(low: str, high: str) -> None:
    assert load_settings({low: "4", high: "4"}).warnings == ()
    assert _refusal(**{low: "4", high: "3.5"}) == (
        f"{low} is 4 and {high} is 3.5, expected the first to be at most the second"
    )


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("CALLBACKS_BATCHSIZE", "CALLBACKS_BATCH_SIZE"),
        ("CALLBACKS_SECRETS", "CALLBACKS_SECRET"),
        ("CALLBACKS_SECRET_", "CALLBACKS_SECRET"),
        ("CALLBACKS_SECRET_staging", "CALLBACKS_SECRET_STAGING"),
        ("CALLBACKS_ALLOWED_NETWORK", "CALLBACKS_ALLOWED_NETWORKS"),
        ("CALLBACKS_READTIMEOUT", "CALLBACKS_READ_TIMEOUT"),
        ("callbacks_max_age", "CALLBACKS_MAX_AGE"),
        ("CALLBACK_MAX_AGE", "CALLBACKS_MAX_AGE"),
        ("CALLBACKS_WARNINGS", None),
        ("CALLBACKS_XYZZY", None),
    ],
)
def test_a_misspelt_name_is_reported_with_the_nearest_real_one(
    name: str, nearest: str | None
) -> None:
    assert unknown_names({name: "1"}) == [(name, nearest)]


def test_names_that_are_settings_or_nothing_of_ours_are_not_reported() -> None:
    fine = [variable for variable in VARIABLES if "<" not in variable]
    names = [*fine, "CALLBACKS_SECRET_STAGING", "CALLBACK_URL", "REDIS_TLS_URL", "PATH"]

    assert unknown_names(dict.fromkeys(names, "1")) == []


def test_settings_carry_one_line_for_each_misspelt_name() -> None:
    settings = load_settings({"CALLBACKS_BATCHSIZE": "3", "CALLBACKS_XYZZY": "hush"})

    assert settings.batch_size == 100
    assert settings.warnings == (
        "CALLBACKS_BATCHSIZE is not a setting of callbacks; did you mean CALLBACKS_BATCH_SIZE?",
        "CALLBACKS_XYZZY is not a setting of callbacks",
    )


def test_the_environment_of_the_process_is_read_unless_another_is_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CALLBACKS_BATCH_SIZE", "7")

    assert load_settings().batch_size == 7
    assert load_settings({}).batch_size == 100


def test_settings_cannot_be_changed() -> None:
    settings = load_settings({"CALLBACKS_SECRET_STAGING": SECRET})

    with pytest.raises(ValidationError):
        settings.batch_size = 1
    with pytest.raises(TypeError):
        settings.environment_secrets["STAGING"] = ()  # type: ignore[index]


def test_settings_can_be_made_from_values_and_are_validated_all_the_same() -> None:
    settings = Settings(batch_size=25, max_delay=0, adaptive=False, retry_schedule=(1, 2.5))

    assert (settings.batch_size, settings.max_delay, settings.adaptive) == (25, 0.0, False)
    assert settings.retry_delays == (1.0, 2.5)
    with pytest.raises(ValidationError):
        Settings(batch_size=True)
    with pytest.raises(ValidationError):
        Settings(bach_size=1)  # type: ignore[call-arg]


@given(st.dictionaries(st.sampled_from([variable for variable, _, _ in DEFAULTS]), st.text()))
def test_any_environment_loads_or_is_refused_in_one_printable_line(environ: dict[str, str]) -> None:
    problem = ""
    try:
        load_settings(environ)
    except SettingsError as error:
        problem = str(error)

    assert problem.isprintable()


@given(st.integers(0, 10**12))
def test_whole_milliseconds_survive_being_seconds(number: int) -> None:
    assert ms(number / 1_000) == number
