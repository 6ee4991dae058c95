"""From bad input to packed bytes: what `freeze` refuses, and what an attempt sends."""

from __future__ import annotations

import contextlib
import json
import re
import sys
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from types import ModuleType
from typing import Any
from uuid import UUID

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from callbacks.model import InvalidCallback, Request
from callbacks.request.freeze import (
    Head,
    check_id,
    freeze,
    mint_id,
    pack,
    read_head,
    request_headers,
    unpack,
)
from callbacks.request.secrets import SecretResolverError, ask_resolver
from callbacks.request.signature import verify
from callbacks.settings import Settings

NOW = datetime(2026, 3, 1, 12, 30, 5, 987_654, tzinfo=UTC)
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

texts = st.text()
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=6,
)  # fmt: skip
requests = st.builds(
    Request,
    callback_url=texts,
    destination=texts.map(lambda text: text.replace("\n", "")),
    environment=texts,
    headers=st.lists(st.tuples(texts, texts), max_size=3).map(tuple),
    body=st.binary(),
)


def _freeze(data: object = None, *, settings: Settings | None = None, **changed: Any) -> Request:
    arguments: dict[str, Any] = {
        "callback_url": "https://Customer.example/hooks?x=1",
        "event": "image.completed",
        "environment": "production",
        "headers": None,
        "lane": None,
        "now": NOW,
    }
    return freeze(data=data, settings=settings or Settings(), **(arguments | changed))


def _refusal(data: object = None, **changed: Any) -> tuple[str, str]:
    with pytest.raises(InvalidCallback) as caught:
        _freeze(data, **changed)
    assert str(caught.value).isprintable()
    return caught.value.field, caught.value.problem


def _nested(levels: int) -> object:
    data: object = 1
    for _ in range(levels):
        data = [data]
    return data


def test_a_request_is_frozen_with_its_normal_url_destination_and_bytes() -> None:
    request = _freeze({"task_id": "t-1", "ü": [1, 2.5, None, True]}, headers={"X-Key": "a b"})

    assert request == Request(
        callback_url="https://customer.example/hooks?x=1",
        destination="https://customer.example:443",
        environment="production",
        headers=(("X-Key", "a b"),),
        body=(
            '{"type":"image.completed","timestamp":"2026-03-01T12:30:05.987Z",'
            '"environment":"production","data":{"task_id":"t-1","ü":[1,2.5,null,true]}}'
        ).encode(),
    )


def test_the_timestamp_is_in_utc_wherever_the_clock_is() -> None:
    east = NOW.astimezone(timezone(timedelta(hours=5, minutes=30)))

    assert _freeze(now=east).body == _freeze(now=NOW).body


def test_a_clock_without_time_zone_is_a_mistake_of_the_program() -> None:
    with pytest.raises(ValueError, match="now has no time zone"):
        _freeze(now=NOW.replace(tzinfo=None))


def test_lane_and_shared_hosts_make_finer_destinations() -> None:
    shared = Settings(shared_hosts=frozenset({"customer.example"}))

    assert _freeze(lane="c 7").destination == "https://customer.example:443#c%207"
    assert _freeze(settings=shared).destination == "https://customer.example:443/hooks"


@hypothesis.settings(max_examples=50)
@given(json_values, texts)
def test_the_body_holds_exactly_the_data_it_was_made_of(data: object, text: str) -> None:
    body = _freeze([data, text]).body

    assert json.loads(body)["data"] == [data, text]
    assert b"\n" not in body


def test_enums_and_tuples_are_what_json_takes_them_for() -> None:
    colour = StrEnum("colour", {"RED": "red"})
    level = IntEnum("level", {"HIGH": 3})

    body = _freeze({colour.RED: (colour.RED, level.HIGH)}).body

    assert json.loads(body)["data"] == {"red": ["red", 3]}


@dataclass
class Money:
    amount: object
    currency: str


class Odd(Enum):
    SET = frozenset({1})
    PRICE = Money(Decimal("1.50"), "EUR")


ALLOWED = "what JSON can hold, a datetime, date, UUID, Decimal, Enum or dataclass"


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (datetime(2026, 1, 31, 9, 0, tzinfo=UTC), "2026-01-31T09:00:00+00:00"),
        (datetime(2026, 1, 31, 9, 0, 0, 5), "2026-01-31T09:00:00.000005"),  # noqa: DTZ001
        (date(2026, 1, 31), "2026-01-31"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (Decimal("12.50"), "12.50"),
        (Odd.PRICE, {"amount": "1.50", "currency": "EUR"}),
        (
            Money([Money(1, "EUR")], "a"),
            {"amount": [{"amount": 1, "currency": "EUR"}], "currency": "a"},
        ),
    ],
)
def test_data_may_have_what_applications_have(value: object, written: object) -> None:
    assert json.loads(_freeze(value).body)["data"] == written
    assert json.loads(_freeze({"a": [value]}).body)["data"] == {"a": [written]}


def test_a_dataclass_that_contains_itself_is_refused() -> None:
    money = Money(1, "EUR")
    money.amount = money
    assert _refusal(money) == ("data", "is nested deeper than 200 levels")


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"bytes", f"is a bytes; expected {ALLOWED}"),
        ({"a": [1, {2, 3}]}, f"['a'][1] is a set; expected {ALLOWED}"),
        ({"a": timedelta(1)}, f"['a'] is a timedelta; expected {ALLOWED}"),
        (Money, f"is a type; expected {ALLOWED}"),
        ([Money({1}, "EUR")], f"[0]['amount'] is a set; expected {ALLOWED}"),
        ({"a": Odd.SET}, f"['a'] is a frozenset; expected {ALLOWED}"),
        ([Decimal("NaN")], "[0] is Decimal('NaN'); expected a finite number"),
        (Money("\ud800", "EUR"), "['amount'] has a lone surrogate; expected valid Unicode"),
        (float("nan"), "is nan; expected a finite number"),
        ([float("inf")], "[0] is inf; expected a finite number"),
        ({"a": -float("inf")}, "['a'] is -inf; expected a finite number"),
        ({"a": {1: "x"}}, "['a'] has the key 1; expected keys of type str"),
        ({True: "x"}, "has the key True; expected keys of type str"),
        ({None: "x"}, "has the key None; expected keys of type str"),
        ({"a": "\ud800"}, "['a'] has a lone surrogate; expected valid Unicode"),
        ({"\udfff": 1}, "['\\udfff'] has a lone surrogate; expected valid Unicode"),
        (_nested(201), "is nested deeper than 200 levels"),
        (_nested(100_000), "is nested deeper than 200 levels"),
    ],
)
def test_data_that_json_cannot_hold_is_refused_with_its_path(data: object, problem: str) -> None:
    assert _refusal(data) == ("data", problem)


def test_data_that_contains_itself_is_refused() -> None:
    data: list[object] = []
    data.append(data)

    assert _refusal(data) == ("data", "is nested deeper than 200 levels")


def test_data_may_be_nested_200_levels() -> None:
    assert json.loads(_freeze(_nested(200)).body)["data"] == _nested(200)


def test_a_number_too_long_to_write_is_refused() -> None:
    field, problem = _refusal(10**5_000)

    assert field == "data"
    assert problem.startswith("cannot be encoded as JSON: ")


def test_a_body_may_be_as_large_as_the_limit_and_no_larger() -> None:
    # The envelope of event "e" around an empty string is 88 bytes, and each "é" two.
    limit = Settings(max_payload_bytes=98)

    assert len(_freeze("é" * 5, settings=limit, event="e").body) == 98
    assert _refusal("é" * 5 + "a", settings=limit, event="e") == (
        "data",
        "makes a body of 99 bytes; expected at most 98 (CALLBACKS_MAX_PAYLOAD_BYTES)",
    )


@pytest.mark.parametrize(
    "seed", [["x" * 1_000], {"k" * 1_000: 1}, [0] * 10], ids=["strings", "keys", "numbers"]
)
def test_data_that_would_grow_beyond_measure_is_refused_before_it_does(seed: object) -> None:
    data = seed
    for _ in range(20):  # ten times as much at each level
        data = [data] * 10

    field, problem = _refusal(data)

    assert field == "data"
    assert problem.startswith("makes a body of more than 262,144 bytes")


@pytest.mark.parametrize("field", ["event", "lane"])
@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("", "is ''; expected printable characters"),
        ("  ", "is '  '; expected printable characters"),
        ("a\nb", "is 'a\\nb'; expected printable characters"),
        ("\ud800", "is '\\ud800'; expected printable characters"),
        (7, "is 7; expected printable characters"),
        ("x" * 129, "has 129 characters; expected at most 128"),
    ],
)
def test_events_and_lanes_are_short_printable_names(field: str, name: object, problem: str) -> None:
    assert _refusal(**{field: name}) == (field, problem)


def test_an_event_may_have_128_characters() -> None:
    assert json.loads(_freeze(event="x" * 128).body)["type"] == "x" * 128


@pytest.mark.parametrize("name", ["", "Production", "a b", "a_b", "resolver", None, "x" * 65])
def test_an_environment_is_named_as_in_the_settings(name: object) -> None:
    field, problem = _refusal(environment=name)

    assert field == "environment"
    assert "expected lower-case letters, digits and inner hyphens" in problem


def test_the_url_is_checked_with_the_settings() -> None:
    only = Settings(https_only=True)

    assert _refusal(callback_url="nowhere")[0] == "callback_url"
    assert _refusal(callback_url="http://a.example", settings=only)[0] == "callback_url"


def test_headers_keep_their_order_and_case() -> None:
    given_headers = {"X-B": "2", "authorization": "Bearer t", "X-A": "", "X-Tab": "a\tb é"}

    assert _freeze(headers=given_headers).headers == tuple(given_headers.items())
    assert _freeze(headers=iter(given_headers.items())).headers == tuple(given_headers.items())


@pytest.mark.parametrize(
    "name",
    [
        "webhook-id", "Webhook-Signature", "webhook_signature", "webhook-anything",
        "Content-Type", "content-length", "CONTENT_TYPE", "Host", "User-Agent",
        "Transfer-Encoding", "transfer_encoding", "Connection", "TE", "Trailer", "Upgrade",
        "Expect", "Keep-Alive", "Proxy-Authorization",
    ],
)  # fmt: skip
def test_a_header_of_ours_or_of_the_connection_is_refused(name: str) -> None:
    field, problem = _refusal(headers={name: "hush"})

    assert field == "headers"
    assert problem == f"have {name!r}, which callbacks or the connection sets"


@pytest.mark.parametrize("name", ["", "a b", "a:b", "a\r\nb", "é", "x\x00", 7, None])
def test_a_header_name_that_is_no_token_is_refused(name: object) -> None:
    field, problem = _refusal(headers={name: "hush"})

    assert field == "headers"
    assert problem.startswith("have the name ")


@pytest.mark.parametrize(
    "value",
    ["hush\r\nx: y", "hush\n", "hush\r", "hush\x00", "hush\x7f", "hush\x85", " hush", "hush\t",
     "hush€", "hush\ud800", b"hush", 7, None],
)  # fmt: skip
def test_a_bad_header_value_is_refused_without_repeating_it(value: object) -> None:
    field, problem = _refusal(headers={"X-Key": value})

    assert field == "headers"
    assert problem.startswith("have a bad value for 'X-Key'; expected ")
    assert "hush" not in problem


@pytest.mark.parametrize("other", ["x-key", "X_Key", "X-Key"])
def test_a_header_given_twice_in_whatever_spelling_is_refused(other: str) -> None:
    field, problem = _refusal(headers=[("X-Key", "1"), (other, "2")])

    assert field == "headers"
    assert problem == f"have {other!r} twice; expected each once, ignoring case"


@pytest.mark.parametrize("headers", [7, "X-Key: 1", [("X-Key",)], ["X-Key"], [7]])
def test_headers_of_another_shape_are_refused(headers: object) -> None:
    assert _refusal(headers=headers) == (
        "headers",
        "cannot be read; expected a mapping of names to values",
    )


def test_there_may_be_50_headers_of_8192_bytes_together() -> None:
    assert len(_freeze(headers={f"x-{n}": "1" for n in range(50)}).headers) == 50
    assert _refusal(headers={f"x-{n}": "1" for n in range(51)}) == (
        "headers",
        "are 51; expected at most 50",
    )
    assert len(_freeze(headers={"x": "v" * 8_191}).headers) == 1
    assert _refusal(headers={"x": "v" * 8_192}) == (
        "headers",
        "have 8,193 bytes; expected at most 8,192",
    )


@pytest.mark.parametrize(
    "id", ["a", "t-1", "A.b_c:D-9", "x" * 128, "-", "cb_0123456789abcdef01234567"]
)
def test_an_id_is_up_to_128_of_a_few_characters(id: str) -> None:
    assert check_id(id) == id


@pytest.mark.parametrize("id", ["", "x" * 129, "a b", "a/b", "a\n", "é", "{a}", 7, None, b"a"])
def test_any_other_id_is_refused(id: object) -> None:
    with pytest.raises(InvalidCallback, match="expected 1 to 128 of") as caught:
        check_id(id)

    assert caught.value.field == "id"
    assert str(caught.value).isprintable()


def test_a_minted_id_is_new_each_time() -> None:
    ids = {mint_id() for _ in range(1_000)}

    assert len(ids) == 1_000
    assert all(re.fullmatch(r"cb_[0-9a-f]{24}", id) for id in ids)


def test_an_attempt_sends_the_callers_headers_and_ours() -> None:
    request = _freeze(headers={"X-Key": "1"})
    headers = request_headers(
        request, id="t-1", attempt=2, timestamp_s=1_772_368_205, secrets=(), version="0.1.0"
    )

    assert headers == {
        "X-Key": "1",
        "content-type": "application/json",
        "user-agent": "callbacks/0.1.0",
        "webhook-id": "t-1",
        "webhook-timestamp": "1772368205",
        "webhook-attempt": "2",
    }


def test_an_attempt_is_signed_where_there_are_secrets() -> None:
    request = _freeze({"a": 1})
    headers = request_headers(
        request, id="t-1", attempt=1, timestamp_s=1_000, secrets=[SECRET], version="0.1.0"
    )

    verify([SECRET], headers, request.body, now_s=1_000)


def test_a_packed_request_is_destination_rest_and_body_on_lines_of_their_own() -> None:
    request = Request(
        callback_url="https://a.example/",
        destination="https://a.example:443",
        environment="dev",
        headers=(("x-a", "é"),),
        body=b"one\ntwo",
    )

    assert pack(request) == (
        b'https://a.example:443\n["https://a.example/","dev",[["x-a","\xc3\xa9"]]]\none\ntwo'
    )


@given(requests)
def test_a_packed_request_unpacks_to_itself(request: Request) -> None:
    assert unpack(pack(request)) == request


@hypothesis.settings(max_examples=50)
@given(json_values, st.dictionaries(st.from_regex(r"x-[a-z]{1,9}", fullmatch=True), st.just("v")))
def test_a_frozen_request_survives_packing(data: object, headers: dict[str, str]) -> None:
    request = _freeze(data, headers=headers)

    assert unpack(pack(request)) == request


def test_the_start_of_a_packed_request_says_what_it_is() -> None:
    packed = pack(_freeze({"n": 1}, event='a "b"\\', environment="staging"))
    start = packed[: packed.index(b',"data"')]

    made_s = NOW.replace(microsecond=987_000).timestamp()
    url = "https://customer.example/hooks?x=1"
    assert read_head(start) == Head(url, "staging", 'a "b"\\', made_s)
    assert read_head(b"") is None
    assert read_head(start[:-9]) is None
    assert read_head(b'd\n["u","e",[]]\n{"type":"x"') is None


def test_a_destination_of_two_lines_is_not_packed() -> None:
    with pytest.raises(ValueError, match="no line break"):
        pack(Request("u", "a\nb", "dev", (), b""))


@pytest.mark.parametrize(
    "packed",
    [
        b"",
        b"d",
        b'd\n["u","e",[]]',
        b"d\nnonsense\nbody",
        b'd\n["u","e"]\nbody',
        b'd\n["u","e",[["n"]]]\nbody',
        b'd\n["u","e",[["n",1]]]\nbody',
        b'd\n["u",7,[]]\nbody',
        b'd\n["u","e",7]\nbody',
        b'd\n{"u":1,"e":2,"h":3}\nbody',
        b'\xff\n["u","e",[]]\nbody',
        b"d\n" + b"[" * 100_000 + b"\nbody",
    ],
)
def test_what_is_no_packed_request_is_refused(packed: bytes) -> None:
    with pytest.raises(ValueError, match="not a packed request"):
        unpack(packed)


@given(st.binary())
def test_any_bytes_are_a_packed_request_or_refused(packed: bytes) -> None:
    with contextlib.suppress(ValueError):
        assert pack(unpack(packed)).startswith(packed.partition(b"\n")[0])


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> ModuleType:
    """An importable module, new for each test, to put a resolver into."""
    module = ModuleType(f"resolver_of_{abs(hash(request.node.nodeid))}")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module


def _resolved(module: ModuleType) -> tuple[str, ...]:
    return ask_resolver(f"{module.__name__}:find", "https://a.example/", "dev")


def test_a_resolver_is_asked_with_url_and_environment(resolver: ModuleType) -> None:
    asked: list[tuple[str, str]] = []

    def find(callback_url: str, environment: str) -> list[str]:
        asked.append((callback_url, environment))
        return []

    resolver.find = find  # type: ignore[attr-defined]

    assert _resolved(resolver) == ()
    assert asked == [("https://a.example/", "dev")]


@pytest.mark.parametrize("found", [[SECRET], (SECRET, SECRET)])
def test_a_resolver_gives_a_list_of_secrets(resolver: ModuleType, found: object) -> None:
    resolver.find = lambda _url, _environment: found  # type: ignore[attr-defined]

    assert _resolved(resolver) == tuple(found)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("found", "problem"),
    [
        (SECRET, "returned str; expected a list of secrets"),
        (None, "returned NoneType; expected a list of secrets"),
        (["whsec_hush"], "returned an invalid secret; expected whsec_"),
        ([SECRET.encode()], "returned an invalid secret"),
        ([None], "returned an invalid secret"),
    ],
)
def test_what_a_resolver_gives_is_validated_and_not_repeated(
    resolver: ModuleType, found: object, problem: str
) -> None:
    resolver.find = lambda _url, _environment: found  # type: ignore[attr-defined]

    with pytest.raises(SecretResolverError, match=f"{resolver.__name__}:find {problem}") as caught:
        _resolved(resolver)
    assert "hush" not in str(caught.value)


def test_a_resolver_that_fails_is_named_with_its_error_as_the_cause(resolver: ModuleType) -> None:
    def find(_url: str, _environment: str) -> list[str]:
        raise KeyError("hush")

    resolver.find = find  # type: ignore[attr-defined]

    with pytest.raises(SecretResolverError, match=r":find raised KeyError$") as caught:
        _resolved(resolver)
    assert isinstance(caught.value.__cause__, KeyError)


@pytest.mark.parametrize("value", ["absent", "no function"])
def test_a_resolver_that_cannot_be_loaded_is_named(resolver: ModuleType, value: str) -> None:
    if value != "absent":
        resolver.find = value  # type: ignore[attr-defined]

    with pytest.raises(SecretResolverError, match=r":find (cannot be loaded|is not a function)"):
        _resolved(resolver)


def test_a_resolver_in_a_module_that_does_not_exist_is_named() -> None:
    with pytest.raises(SecretResolverError, match="no_such_module_at_all:find cannot be loaded"):
        ask_resolver("no_such_module_at_all:find", "https://a.example/", "dev")
