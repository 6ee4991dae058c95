"""Whether a customer's URL would be accepted and may be reached; DNS answers are scripted."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Sequence

import pytest

from callbacks import api
from callbacks.delivery.dns import Lookups
from callbacks.model import InvalidCallback
from callbacks.settings import load_settings

PUBLIC = ["93.184.216.34", "2606:2800:21f:cb07::1"]


@pytest.fixture
def check(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Check a URL as an application does, with these addresses and settings."""

    def check_url(url: str, found: object = PUBLIC, **settings: str) -> str:
        environ = {f"CALLBACKS_{name.upper()}": value for name, value in settings.items()}

        def resolve(host: str, port: int) -> Sequence[str]:
            assert (host, port) == ("customer.example", 443)
            if isinstance(found, BaseException):
                raise found
            if callable(found):
                found()
            return found if isinstance(found, list) else []

        class Parts:
            settings = load_settings(environ)
            lookups = Lookups(resolve)

        monkeypatch.setattr(api, "runtime", Parts)
        return api.check_url(url)

    return check_url


def test_a_public_url_is_returned_as_it_would_be_stored(check: Callable[..., str]) -> None:
    assert check("HTTPS://Customer.example:443/é?x=1") == "https://customer.example/%C3%A9?x=1"
    assert check("https://93.184.216.34/x") == "https://93.184.216.34/x"


@pytest.mark.parametrize(
    ("url", "found", "problem"),
    [
        ("ftp://customer.example/", PUBLIC, "has the scheme 'ftp'"),
        ("https://u:hunter2@customer.example/", PUBLIC, "has user info"),
        ("https://customer.example/", [*PUBLIC, "10.0.0.7"], "10.0.0.7 is not a public address"),
        ("https://customer.example/", ["::1"], "::1 is not a public address"),
        ("https://169.254.169.254/", PUBLIC, "169.254.169.254 is not a public address"),
        ("https://[::1]/", PUBLIC, "::1 is not a public address"),
        (
            "https://customer.example/",
            socket.gaierror(socket.EAI_NONAME, "Name or service not known"),
            "does not resolve (Name or service not known)",
        ),
        ("https://customer.example/", [], "does not resolve"),
    ],
)
def test_any_other_is_refused_with_what_is_wrong(
    check: Callable[..., str], url: str, found: object, problem: str
) -> None:
    with pytest.raises(InvalidCallback) as caught:
        check(url, found)
    assert caught.value.field == "callback_url"
    assert problem in caught.value.problem
    assert "expected" in caught.value.problem
    assert "hunter2" not in str(caught.value)


def test_the_settings_count(check: Callable[..., str]) -> None:
    assert check("https://customer.example/", ["10.0.0.7"], allowed_networks="10.0.0.0/8")
    with pytest.raises(InvalidCallback, match="CALLBACKS_HTTPS_ONLY"):
        check("http://customer.example/", https_only="true")


def test_a_name_that_never_resolves_is_refused_in_time(check: Callable[..., str]) -> None:
    hangs = threading.Event()
    with pytest.raises(InvalidCallback, match="did not resolve within"):
        check("https://customer.example/", hangs.wait, deadline="0.1", stuck_after="60")
    hangs.set()
