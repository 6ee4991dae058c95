"""The forms of a Redis URL: what is read from each, and what is refused."""

from __future__ import annotations

import pytest

from callbacks.model import SettingsError
from callbacks.redis_url import Form, check, read, without_password
from callbacks.settings import load_settings


@pytest.mark.parametrize(
    ("url", "hosts", "master", "db"),
    [
        ("redis+sentinel://h/main", (("h", 26_379),), "main", 0),
        ("redis+sentinel://h:1,other:2/main/3", (("h", 1), ("other", 2)), "main", 3),
        ("rediss+sentinel://[::1]:1,h/my-main.1/", (("::1", 1), ("h", 26_379)), "my-main.1", 0),
    ],
)
def test_sentinels_are_read_with_the_name_of_the_master(
    url: str, hosts: tuple[tuple[str, int], ...], master: str, db: int
) -> None:
    place = read(check(url))
    assert place.form is Form.SENTINEL
    assert (place.hosts, place.master, place.db) == (hosts, master, db)
    assert place.tls is url.startswith("rediss")


@pytest.mark.parametrize("url", ["redis+cluster://a:1,b", "rediss+cluster://a:1,b/0"])
def test_nodes_of_a_cluster_are_read(url: str) -> None:
    place = read(check(url))
    assert place.form is Form.CLUSTER
    assert place.hosts == (("a", 1), ("b", 6_379))
    assert place.tls is url.startswith("rediss")


def test_user_and_passwords_are_read_and_shown_to_nobody() -> None:
    url = (
        "rediss+sentinel://us%40er:pa%2Fss@h:1,g:2/main"
        "?sentinel_username=watch&sentinel_password=hu%26sh&ssl_ca_certs=/ca.pem"
    )
    place = read(check(url))
    assert (place.username, place.password) == ("us@er", "pa/ss")
    assert place.options["sentinel_username"] == "watch"
    assert place.options["sentinel_password"] == "hu&sh"
    assert place.certificates == {"ssl_ca_certs": "/ca.pem"}
    assert without_password(url) == "rediss+sentinel://h:1,g:2/main"
    assert "pa/ss" not in repr(place)
    assert "hu&sh" not in repr(place)
    assert without_password("redis+cluster://hush:h:1,g:2x") == "redis+cluster://..."


@pytest.mark.parametrize(
    "url",
    [
        "redis+sentinel://h:26379",  # no master
        "redis+sentinel://h:26379/main/zero",
        "redis+sentinel://h:26379/main/0/1",
        "redis+sentinel://h,/main",
        "redis+sentinel://h:x/main",
        "redis+sentinel:///main",
        "redis+sentinel://h/ma in",
        "redis+cluster://h/1",  # a cluster has only database 0
        "redis+cluster://",
        "redis+ring://h",
        "unix+cluster://h",
        "redis://h:1,g:2/0",
    ],
)
def test_what_is_none_of_the_forms_is_refused_with_all_of_them(url: str) -> None:
    with pytest.raises(SettingsError) as refused:
        load_settings({"REDIS_URL": url})
    for form in ("redis://host", "redis+sentinel://host:port,host:port/MASTER/DB", "redis+cluster"):
        assert form in str(refused.value)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis+sentinel://h/m?db=1", "only sentinel_username, sentinel_password, ssl_ca_certs"),
        ("redis+sentinel://h/m?sentinel_password=", "sentinel_password once, as a password"),
        ("redis+cluster://h?sentinel_password=x", ", not sentinel_password"),
        ("redis://h?sentinel_password=x", ", not sentinel_password"),
        ("redis+cluster://h?ssl_keyfile=/k", "certificates with rediss+cluster:// only"),
        ("redis+cluster://h?max_connections=9", "(use CALLBACKS_REDIS_MAX_CONNECTIONS)"),
    ],
)
def test_options_of_another_form_are_refused(url: str, expected: str) -> None:
    with pytest.raises(SettingsError) as refused:
        load_settings({"REDIS_URL": url})
    assert expected in str(refused.value)


def test_dramatiqs_keys_are_in_braces_only_on_a_cluster() -> None:
    for url, expected in (
        ("redis://h", "callbacks"),
        ("redis+sentinel://h/main", "callbacks"),
        ("redis+cluster://h", "{callbacks}"),
    ):
        assert load_settings({"REDIS_URL": url}).message_namespace == expected
