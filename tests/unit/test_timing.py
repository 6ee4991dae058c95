"""Where an attempt's time went: the parts add up to the whole, and are stored in a short word."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callbacks.model import PARTS, PARTS_BEFORE, Answer, Steps, Timing, Waited
from callbacks.policy.timing import before, packed, told, unpacked
from callbacks.units import ms

MS = st.integers(0, 10**8)


@pytest.mark.parametrize(
    ("waited", "asked", "at", "late", "parts"),
    [
        # due at 100, claimed at 5,100 for its slot at 5,300; asked 100 early, sent on time
        (Waited(100, 5_100, 5_300), 5_200, 5_300, 0, (0, 0, 5_000, 200, 0)),
        # a batch passed over it 4,600 after it was due
        (Waited(100, 5_100, 5_300, 4_600), 5_200, 5_300, 0, (0, 4_600, 400, 200, 0)),
        # 3,000 of these under a hold, and its thread woke up 2 late
        (Waited(100, 5_100, 5_300, 1_600, 3_000), 5_200, 5_300, 2, (3_000, 1_600, 400, 200, 2)),
        # under a hold until it was claimed
        (Waited(100, 5_100, 5_100, 4_600, 5_000), 5_100, 5_100, 0, (5_000, 0, 0, 0, 0)),
        # the message came 700 after the slot, and then its destination's pace took another 40
        (Waited(100, 5_100, 5_300), 6_000, 6_040, 0, (0, 0, 5_000, 240, 700)),
        # a retry, which waited for nothing but a thread
        (Waited(100, 100, 100), 130, 130, 5, (0, 0, 0, 0, 35)),
    ],
)
def test_the_wait_before_an_attempt_is_told_by_its_parts(
    waited: Waited, asked: int, at: int, late: int, parts: tuple[int, ...]
) -> None:
    assert before(waited, asked_ms=asked, at_ms=at, late_ms=late) == parts


@given(lane=MS, slot=MS, passed=MS, held=MS, asked=MS, wait=st.integers(0, 250), late=MS)
def test_the_parts_of_a_wait_add_up_to_it(  # noqa: PLR0917 - hypothesis gives them by name
    lane: int, slot: int, passed: int, held: int, asked: int, wait: int, late: int
) -> None:
    waited = Waited(1_000, 1_000 + lane, 1_000 + lane + slot, passed, held)
    at = max(waited.slot_ms, asked) + wait
    parts = before(waited, asked_ms=asked, at_ms=at, late_ms=late)
    assert sum(parts) == at + late - 1_000
    assert min(parts) >= 0


@given(
    waits=st.tuples(*[MS] * 5),
    secret=MS,
    took=st.tuples(*[MS] * 5),
    rest=MS,
    reused=st.sampled_from([True, False, None]),
)
def test_what_is_stored_is_read_back(
    waits: tuple[int, ...], secret: int, took: tuple[int, ...], rest: int, reused: bool | None
) -> None:
    steps = Steps(*[each / 1_000 for each in took], reused)
    word = packed(waits, Answer(200, None, steps=steps, resolver=secret / 1_000))
    assert word.isalnum() or not word
    found = unpacked(word, sum(took) + rest)
    assert [ms(each) for each in found.parts().values()] == [*waits, secret, *took, rest]
    assert found.reused is reused
    assert ms(found.waited) == sum(waits) + secret
    assert ms(found.total) == ms(found.waited) + sum(took) + rest


def test_a_usual_attempt_is_stored_in_a_dozen_characters() -> None:
    answer = Answer(200, None, steps=Steps(answer=0.018, reused=True))
    assert packed((0, 0, 4_873, 12, 0), answer) == "b4873p12a18r"


def test_a_part_that_only_a_newer_release_knows_counts_as_the_rest() -> None:
    assert unpacked("b5x3a2r", 10) == Timing(
        total=0.015, waited=0.005, batch=0.005, answer=0.002, rest=0.008, reused=True
    )


def test_an_attempt_without_steps_has_only_a_rest() -> None:
    word = packed((0, 0, 1, 0, 0), Answer(200, None))
    assert unpacked(word, 10) == Timing(total=0.011, waited=0.001, batch=0.001, rest=0.01)


def test_it_is_told_in_one_line_that_adds_up() -> None:
    line = "4,906 ms = batch 4,873 + pace 12 + answer 18 + rest 3, over an open connection"
    assert told(unpacked("b4873p12a18r", 21)) == line
    assert told(unpacked("h5n", 0)) == "5 ms = hold 5, over a new connection"
    assert told(Timing()) == "0 ms"


def test_every_part_is_a_field() -> None:
    assert set(PARTS_BEFORE) < set(PARTS)
    assert list(Timing().parts()) == list(PARTS)
