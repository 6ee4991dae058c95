"""Which callback URLs are accepted, how they are normalized, and their destinations."""

from __future__ import annotations

import contextlib
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from urllib3.util import parse_url

from callbacks.model import InvalidCallback
from callbacks.request.urls import (
    Scope,
    destination_of,
    display_url,
    is_masked,
    lanes_and_paths,
    masked,
    normal_host,
    normal_url,
    read_url,
    scope_of,
)

hosts = st.one_of(
    st.from_regex(
        r"[a-zA-Z0-9]([a-zA-Z0-9-]{0,20}[a-zA-Z0-9])?\.[a-zA-Z]{2,10}\.?", fullmatch=True
    ),
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=6).map(lambda address: f"[{address.exploded}]"),
    st.sampled_from(["bücher.example", "ΠΑΡΆΔΕΙΓΜΑ.example", "例え.jp"]),
)
ports = st.one_of(st.just(""), st.integers(1, 65_535).map(lambda port: f":{port}"))
paths = st.text(st.characters(exclude_categories=("C", "Z"))).map(
    lambda text: "/" + text.replace("\\", "")
)
urls = st.builds(
    "{}://{}{}{}".format, st.sampled_from(["http", "https", "HTTPS"]), hosts, ports, paths
)


@pytest.mark.parametrize(
    ("given_url", "expected"),
    [
        ("https://customer.example/hooks/ai", "https://customer.example/hooks/ai"),
        ("HTTPS://Customer.EXAMPLE", "https://customer.example/"),
        ("https://customer.example?a=1&b=%2F", "https://customer.example/?a=1&b=%2F"),
        ("https://customer.example/a#part", "https://customer.example/a"),
        ("https://customer.example:443/", "https://customer.example/"),
        ("https://customer.example:/", "https://customer.example/"),
        ("http://customer.example:443/", "http://customer.example:443/"),
        ("https://customer.example./", "https://customer.example/"),
        ("https://bücher.example/ü?ö=|", "https://xn--bcher-kva.example/%C3%BC?%C3%B6=%7C"),
        ("https://xn--bcher-kva.example/", "https://xn--bcher-kva.example/"),
        ("http://my_service:8000/Path", "http://my_service:8000/Path"),
        ("http://127.0.0.1:8080/", "http://127.0.0.1:8080/"),
        ("http://[2001:DB8:0:0:0:0:0:1]:8080/x", "http://[2001:db8::1]:8080/x"),
        # What a receiver may distinguish stays as it is.
        ("https://a.example/x/../y/./?b=%7e", "https://a.example/x/../y/./?b=%7e"),
        ("https://a.example/%2e%2e/%41~", "https://a.example/%2e%2e/%41~"),
        ("https://a.example//b//c;d=1", "https://a.example//b//c;d=1"),
        ("https://a.example/a?", "https://a.example/a?"),
        ("https://a.example?#part", "https://a.example/?"),
        ("https://a.example/a#b?c", "https://a.example/a"),
        ("https://a.example/?a=1?b=2&c[]=+", "https://a.example/?a=1?b=2&c[]=+"),
        # What is not allowed in a URL is encoded, also a stray %.
        ("https://a.example/100%?b=%zz%4", "https://a.example/100%25?b=%25zz%254"),
        ('https://a.example/{x}"<y>^`|', "https://a.example/%7Bx%7D%22%3Cy%3E%5E%60%7C"),
    ],
)
def test_a_url_has_one_spelling_in_ascii_without_fragment_and_default_port(
    given_url: str, expected: str
) -> None:
    assert normal_url(given_url) == expected


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        (None, "is of type NoneType; expected a str"),
        (b"https://customer.example/", "is of type bytes; expected a str"),
        ("", "has no scheme; expected https:// or http://"),
        ("customer.example/hook", "has no scheme"),
        ("//customer.example/hook", "has no scheme"),
        ("ftp://customer.example/", "has the scheme 'ftp'; expected https:// or http://"),
        ("file:///etc/passwd", "has the scheme 'file'"),
        ("https:///hook", "has no host"),
        ("https:customer.example", "has no host"),
        ("https://:443/", "has no host"),
        ("https://user:pass@customer.example/", "has user info"),
        ("https://@customer.example/", "has user info"),
        ("https://customer.example:0/", "has a port out of range; expected 1 to 65535"),
        ("https://customer.example:65536/", "has a port out of range"),
        ("https://customer.example:x/", "has a port out of range"),
        ("https://customer.example:+80/", "has a port out of range"),
        ("https://customer.example/a b", "has whitespace or control characters"),
        (" https://customer.example/", "has whitespace or control characters"),
        ("https://customer.example/\r\nhost: x", "has whitespace or control characters"),
        ("https://customer.example/\x00", "has whitespace or control characters"),
        ("https://customer.example/\x7f", "has whitespace or control characters"),
        ("https://customer.example/\u202e", "has whitespace or control characters"),
        ("https://customer.example/\ud800", "has whitespace or control characters"),
        ("https://customer\t.example/", "has whitespace or control characters"),
        ("https://customer.example\\@evil.example/", "has a backslash"),
        ("https://a..example/", "has a bad host: it has an empty label"),
        ("https://./", "has a bad host: it has an empty label"),
        ("https://-a.example/", "has a bad host: it has a bad label"),
        ("https://" + "a" * 64 + ".example/", "has a bad host: it has a bad label"),
        ("https://" + "a." * 127 + "ab/", "has a bad host: it is over 253 characters"),
        ("https://customer%2eexample/", "has a bad host"),
        ("https://xn--a/", "has a bad host: it has a bad xn-- label"),
        ("https://\U0001f600.example/", "has a bad host: it cannot be IDNA-encoded"),
        ("http://2130706433/", "has a bad host: it ends in a number"),
        ("http://127.1/", "has a bad host: it ends in a number"),
        ("http://0x7f.0.0.1/", "has a bad host: it ends in a number"),
        ("http://127.0.0.0x1/", "has a bad host: it ends in a number"),
        ("http://0177.0.0.1/", "has a bad host: it ends in a number"),
        ("http://[fe80::1%25eth0]/", "has a bad host: it has an IPv6 zone"),
        ("http://[::1/", "cannot be read as a URL"),
        ("http://[::1]x/", "cannot be read as a URL"),
        ("http://[v1.a]/", "cannot be read as a URL"),
    ],
)
def test_a_bad_url_is_refused_and_what_is_wrong_is_named(url: object, problem: str) -> None:
    with pytest.raises(InvalidCallback) as caught:
        normal_url(url)

    assert caught.value.field == "callback_url"
    assert str(caught.value).startswith(f"callback_url: {problem}")


def test_an_error_repeats_neither_user_info_nor_query() -> None:
    for url in ("https://user:hush@host/", "https://host:x/?hush", "https://a..b/?hush=1"):
        with pytest.raises(InvalidCallback) as caught:
            normal_url(url)
        assert "hush" not in str(caught.value)


def test_a_url_may_have_2048_bytes_and_no_more() -> None:
    start = "https://customer.example/"
    longest = start + "a" * (2_048 - len(start))

    assert normal_url(longest) == longest
    with pytest.raises(InvalidCallback, match="has 2,049 bytes; expected at most 2,048"):
        normal_url(longest + "a")


def test_bytes_are_counted_as_they_are_sent() -> None:
    # "é" is two bytes, sent as the six of %C3%A9: 25 + 350 x 6 = 2,125.
    with pytest.raises(InvalidCallback, match="has 2,125 bytes"):
        normal_url("https://customer.example/" + "é" * 350)


def test_plain_http_is_refused_where_only_https_is_wanted() -> None:
    assert normal_url("https://customer.example/", https_only=True)
    with pytest.raises(InvalidCallback, match="CALLBACKS_HTTPS_ONLY"):
        normal_url("http://customer.example/", https_only=True)


@pytest.mark.parametrize(
    ("url", "destination"),
    [
        ("https://Customer.example/hooks?x=1", "https://customer.example:443"),
        ("http://customer.example", "http://customer.example:80"),
        ("http://customer.example:8080/", "http://customer.example:8080"),
        ("https://bücher.example/", "https://xn--bcher-kva.example:443"),
        ("http://[0:0::1]/", "http://[::1]:80"),
    ],
)
def test_a_destination_is_scheme_host_and_port(url: str, destination: str) -> None:
    assert destination_of(url, lane=None, shared_hosts=()) == destination


def test_on_a_shared_host_each_url_without_its_query_is_a_destination() -> None:
    url = "https://Hooks.Slack.com/services/T0/B1?thread=2"
    shared = {"hooks.slack.com"}

    assert (
        destination_of(url, lane=None, shared_hosts=shared)
        == "https://hooks.slack.com:443/services/T0/B1"
    )
    assert (
        destination_of("https://other.example/a", lane=None, shared_hosts=shared)
        == "https://other.example:443"
    )


def test_a_lane_is_a_destination_of_its_own_on_a_shared_host_too() -> None:
    url = "https://hooks.slack.com/services/T0"
    expected = "https://hooks.slack.com:443#customer%2F7%20%C3%BC%0A"

    assert destination_of(url, lane="customer/7 ü\n", shared_hosts=()) == expected
    assert destination_of(url, lane="customer/7 ü\n", shared_hosts={"hooks.slack.com"}) == expected


@given(urls)
def test_the_normal_form_is_its_own_normal_form_and_reads_alike_to_both_parsers(url: str) -> None:
    normal = normal_url(url)
    parts, sent = urlsplit(normal), parse_url(normal)

    assert normal_url(normal) == normal
    assert normal.isascii()
    assert normal.isprintable()
    assert (parts.hostname, parts.port) == ((sent.host or "").strip("[]"), sent.port)


@given(urls)
def test_a_url_and_its_parts_are_the_same(url: str) -> None:
    read = read_url(normal_url(url))

    assert read.text == normal_url(url)
    assert read.text.endswith(read.request_target)
    assert read.request_target.startswith("/")
    assert read.origin == destination_of(url, lane=None, shared_hosts=())


@given(urls, st.none() | st.text(min_size=1))
def test_a_destination_is_that_of_the_normal_form_and_one_printable_line(
    url: str, lane: str | None
) -> None:
    if lane is not None:
        lane = lane.encode(errors="replace").decode()
    destination = destination_of(url, lane=lane, shared_hosts=())

    assert destination_of(normal_url(url), lane=lane, shared_hosts=()) == destination
    assert destination.isascii()
    assert destination.isprintable()
    if lane is None:
        assert destination_of(destination, lane=None, shared_hosts=()) == destination


@given(st.text())
def test_any_text_is_a_url_or_refused_as_one(text: str) -> None:
    for url in (text, f"https://{text}", f"https://a.example{text}"):
        with contextlib.suppress(InvalidCallback):
            assert normal_url(url).startswith("http")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://user:hush@a.example:8443/p?token=hush#hush", "https://a.example:8443/p"),
        ("https://a.example/p", "https://a.example/p"),
        ("https://a.example/\x1b[31m", "https://a.example/\N{REPLACEMENT CHARACTER}[31m"),
        ("https://user:hu/sh@a.example/", "(not a URL)"),
        ("user:hush@a.example/", "(not a URL)"),
        ("http://[hush", "(not a URL)"),
        ("", "(not a URL)"),
    ],
)
def test_people_see_a_url_without_user_info_query_and_fragment(url: str, shown: str) -> None:
    assert display_url(url) == shown


@given(st.text())
def test_showing_a_url_never_fails(text: str) -> None:
    for url in (text, f"https://{text}"):
        assert display_url(url).isprintable()


@pytest.mark.parametrize("host", ["", ".", "a b", "a/b", "a.b:80", "https://a.b", "1.2.3", "*.a"])
def test_what_is_no_host_has_no_normal_form(host: str) -> None:
    with pytest.raises(ValueError, match=r"^(is|has|ends|cannot) "):
        normal_host(host)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://a.example", Scope("https://a.example:443", lanes=True)),
        ("HTTPS://A.example:443/", Scope("https://a.example:443", lanes=True)),
        ("https://a.example/hooks?q", Scope("https://a.example:443", lanes=True)),
        ("https://a.example:443#*", Scope("https://a.example:443", lanes=True)),
        ("https://a.example#", Scope("https://a.example:443")),
        ("https://a.example#a%201", Scope("https://a.example:443#a%201")),
        ("https://a.example#a 1", Scope("https://a.example:443#a%201")),
        ("https://a.example#%2A", Scope("https://a.example:443#%2A")),
        ("http://[2001:db8::1]#l", Scope("http://[2001:db8::1]:80#l")),
        ("https://shared.example", Scope("https://shared.example:443", lanes=True)),
        ("https://shared.example/", Scope("https://shared.example:443", lanes=True)),
        ("https://shared.example/x?q", Scope("https://shared.example:443/x")),
        ("https://shared.example/x#", Scope("https://shared.example:443/x")),
        ("https://shared.example#l", Scope("https://shared.example:443#l")),
    ],
)
def test_a_destination_is_named_with_its_lanes_or_alone(text: str, expected: Scope) -> None:
    assert scope_of(text, shared_hosts={"shared.example"}) == expected


@pytest.mark.parametrize(
    ("name", "lanes", "destination", "covered"),
    [
        ("https://a:443", True, "https://a:443", True),
        ("https://a:443", True, "https://a:443#l", True),
        ("https://a:443", True, "https://a:443/x", True),
        ("https://a:443", True, "https://a:4430#l", False),
        ("https://a:443", False, "https://a:443#l", False),
        ("https://a:443#l", False, "https://a:443#l", True),
        ("https://a:443#l", False, "https://a:443#l2", False),
    ],
)
def test_a_scope_covers_what_it_names(
    name: str, lanes: bool, destination: str, covered: bool
) -> None:
    assert Scope(name, lanes).covers(destination) is covered


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://h:443", "https://h:443"),
        ("https://h:443/", "https://h:443/"),
        ("https://h:443#lane/x", "https://h:443#lane/x"),
        ("https://h/hook", "https://h/~6fc2d0517add"),
        ("https://h/hook?token=x", "https://h/~6fc2d0517add"),
        ("https://h:443/hook#eu", "https://h:443/~6fc2d0517add#eu"),
        ("https://h/hook: refuses; see https://h/hook.", "https://h/~6fc2d0517add: refuses; see https://h/~6fc2d0517add."),
        ("resume 'https://h/hook'", "resume 'https://h/~6fc2d0517add'"),
        ("no URL here: /hook", "no URL here: /hook"),
    ],
)  # fmt: skip
def test_paths_are_masked_by_a_digest_wherever_a_url_is(text: str, shown: str) -> None:
    assert masked(text) == shown
    assert masked(shown) == shown


@pytest.mark.parametrize(
    ("destination", "is_one"),
    [
        ("https://h:443", False),
        ("https://h:443/hook", False),
        ("https://h:443/~6fc2d0517add", True),
        ("https://h:443/~6fc2d0517add#eu", True),
        ("https://h:443/~6fc2d0517ad", False),
    ],
)
def test_a_masked_destination_is_recognized(destination: str, is_one: bool) -> None:
    assert is_masked(destination) is is_one


def test_lanes_and_paths_of_a_host_are_counted_apart() -> None:
    host = "https://hooks.example:443"
    names = [host, f"{host}#a", f"{host}/x", f"{host}/y", f"{host}/y#b"]
    assert lanes_and_paths(names) == (2, 2)
