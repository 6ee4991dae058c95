"""Settings in code: the same names and checks, with the environment before them."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from ipaddress import ip_network

import pytest

import callbacks
from callbacks import SettingsError, configure, runtime
from callbacks.settings import Settings, in_code, load_settings
from tests.conftest import forget_runtime

SECRET = "whsec_" + base64.b64encode(b"s" * 32).decode()
OTHER = "whsec_" + base64.b64encode(b"o" * 32).decode()


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No setting in code or in the environment, and no runtime."""
    for name in ("CALLBACKS_REDIS_URL", "REDIS_URL", "HEROKU_APP_NAME", "CALLBACKS_SECRET"):
        monkeypatch.delenv(name, raising=False)
    forget = forget_runtime()
    before = dict(in_code.values_in_code())
    in_code.replace_in_code({})
    forget()
    yield
    in_code.replace_in_code(before)
    forget()


def refusal(**given: object) -> str:
    before = dict(in_code.values_in_code())
    with pytest.raises(SettingsError) as caught:
        configure(**given)
    assert in_code.values_in_code() == before
    return str(caught.value)


def test_values_are_those_of_variables_or_of_pythons_own_types() -> None:
    configure(
        batch_size=5,
        max_delay="0.5",
        adaptive=False,
        retry_schedule=[5, 300],
        shared_hosts={"Hooks.Example"},
        allowed_networks=[ip_network("127.0.0.0/8"), "::1/128"],
        secret=[SECRET, OTHER],
        environment="staging",
    )

    settings = runtime.runtime().settings
    assert (settings.batch_size, settings.max_delay, settings.adaptive) == (5, 0.5, False)
    assert settings.retry_schedule == (5, 300)
    assert settings.shared_hosts == {"hooks.example"}
    assert settings.allowed_networks == (ip_network("127.0.0.0/8"), ip_network("::1/128"))
    assert (settings.secret, settings.environment) == ((SECRET, OTHER), "staging")


def test_a_variable_of_the_environment_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    configure(batch_size=5, max_retries=7, redis_url="redis://a/1", environment="staging")
    monkeypatch.setenv("CALLBACKS_BATCH_SIZE", "6")
    monkeypatch.setenv("REDIS_URL", "redis://b/2")
    monkeypatch.setenv("HEROKU_APP_NAME", "shop-dev")

    settings = load_settings()

    assert (settings.batch_size, settings.max_retries) == (6, 7)
    assert (settings.redis_url, settings.environment) == ("redis://b/2", "staging")


def test_secrets_by_environment_are_those_of_both(monkeypatch: pytest.MonkeyPatch) -> None:
    configure(environment_secrets={"eu-staging": SECRET, "test": [SECRET]})
    monkeypatch.setenv("CALLBACKS_SECRET_TEST", OTHER)

    settings = load_settings()

    assert settings.secrets_for("eu-staging") == (SECRET,)
    assert settings.secrets_for("test") == (OTHER,)


def test_a_later_call_adds_and_none_is_the_default() -> None:
    configure(batch_size=5, max_retries=7)
    configure(max_retries=None, max_delay=1)

    settings = load_settings()

    assert (settings.batch_size, settings.max_retries, settings.max_delay) == (5, 2, 1)


def test_an_environment_given_by_hand_is_not_mixed_with_it() -> None:
    configure(batch_size=5)

    assert load_settings({}).batch_size == 100


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"batch_size": 0}, "batch_size is 0, expected a whole number from 1 to 1000"),
        (
            {"adaptive": "maybe"},
            "adaptive is 'maybe', expected true, false, yes, no, on, off, 1 or",
        ),
        ({"batch_sise": 5}, "batch_sise is not a setting of callbacks; did you mean batch_size?"),
        ({"BATCH_SIZE": 5}, "BATCH_SIZE is not a setting of callbacks; did you mean batch_size?"),
        ({"warnings": ()}, "warnings is not a setting of callbacks"),
        ({"secret": "whsec_short"}, "secret is not valid, expected"),
        ({"environment_secrets": {"test": "x"}}, "environment_secrets['TEST'] is not valid, expe"),
        ({"environment_secrets": "x"}, "environment_secrets is not valid, expected secrets by env"),
        (
            {"redis_url": "http://u:planted@h"},
            "redis_url is 'http://h', expected redis://host:port",
        ),
        ({"stuck_after": 5}, "CALLBACKS_STUCK_AFTER is 5, expected at least 17"),
    ],
)
def test_what_is_wrong_is_named_and_nothing_changes(given: dict[str, object], problem: str) -> None:
    said = refusal(**given)

    assert said.startswith(problem)
    assert "planted" not in said
    assert "whsec_short" not in said


def test_every_field_can_be_set() -> None:
    settings = load_settings({})
    fields = {name: getattr(settings, name) for name in Settings.model_fields if name != "warnings"}

    configure(**fields)

    assert load_settings() == settings


def test_it_comes_too_late_once_other_values_are_in_use() -> None:
    configure(batch_size=5)
    runtime.runtime()

    configure(batch_size=5, max_retries=2)
    assert refusal(batch_size=6, max_delay=1).startswith(
        "callbacks.configure comes too late for batch_size, max_delay: this process uses its"
    )


def test_in_time_or_late_the_variable_that_decides_makes_it_right(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CALLBACKS_BATCH_SIZE", "9")
    runtime.runtime()

    configure(batch_size=6)

    assert load_settings().batch_size == 9


def test_callbacks_of_ones_own_use_them(monkeypatch: pytest.MonkeyPatch) -> None:
    configure(environment="staging")

    assert callbacks.AICallback("https://a.example", {}).request.environment == "staging"
