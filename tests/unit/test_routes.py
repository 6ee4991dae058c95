"""Which shard has what: fixed for ever, so the expected numbers are literals."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callbacks.batcher.keys import Keys, shard_tags, slot_of
from callbacks.batcher.routes import own_shard, shard_of, shard_of_token, with_shard

MINTED = "cb_0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("destination", "of_4", "of_16", "of_64"),
    [
        ("https://a.example:443", 3, 7, 7),
        ("https://b.example:443", 3, 3, 35),
        ("https://b.example:443#c-1", 0, 0, 32),
    ],
)
def test_a_destination_belongs_to_the_same_shard_for_ever(
    destination: str, of_4: int, of_16: int, of_64: int
) -> None:
    assert [shard_of(destination, n) for n in (1, 4, 16, 64)] == [0, of_4, of_16, of_64]


def test_destinations_are_even_over_shards() -> None:
    counts = Counter(shard_of(f"https://c-{n:04}.example:443", 16) for n in range(16_000))
    assert set(counts) == set(range(16))
    assert max(counts.values()) < 1.12 * 1_000  # 3.8 standard deviations


def test_a_minted_id_names_its_shard() -> None:
    assert with_shard(MINTED, 11) == f"{MINTED}.0b"
    assert own_shard(f"{MINTED}.0b", 16) == 11


@pytest.mark.parametrize("id", [f"{MINTED}.10", MINTED, "t-1", f"{MINTED}.0B", f"x{MINTED}.01"])
def test_any_other_id_has_its_own_shard_by_hash(id: str) -> None:
    assert own_shard(id, 16) == shard_of(id, 16)


def test_the_token_of_a_claim_names_its_shard_where_there_are_several() -> None:
    assert shard_of_token("12-00ff.3u") == 12
    assert shard_of_token("00ff.3u") is None
    assert shard_of_token("") is None


def test_the_only_shard_has_the_keys_of_the_namespace() -> None:
    assert shard_tags("shop", 1) == ("shop",)
    assert Keys(shard_tags("shop", 1)[0]).of("ring") == "{shop}:ring"


@given(
    namespace=st.from_regex(r"[A-Za-z0-9_.-]{1,64}", fullmatch=True),
    shards=st.integers(min_value=2, max_value=64),
)
def test_each_shard_has_its_own_part_of_a_clusters_slots(namespace: str, shards: int) -> None:
    tags = shard_tags(namespace, shards)
    assert [slot_of(tag) * shards // 16_384 for tag in tags] == list(range(shards))
    assert all(tag.partition(":")[0] == namespace for tag in tags)


def test_slots_are_those_of_the_cluster_specification() -> None:
    assert slot_of("123456789") == 0x31C3
    assert slot_of("foo") == 12_182  # as CLUSTER KEYSLOT says
