"""Compares the model with every structure in Redis: each id is only in those of its state."""

from __future__ import annotations

from typing import Any

from tests.redis.bench import Seen
from tests.redis.ledger import FINAL, LIVE, Entry, Ledger


def compare(ledger: Ledger, seen: Seen, now: int) -> None:
    """Raise `AssertionError` if a structure, a record or a count is wrong."""
    entries = ledger.within("queued", *LIVE, *FINAL)
    assert _indexes(seen) == _expected(entries)
    assert {k: int(v) for k, v in seen.of("counters").items()} == dict(+ledger.counts)
    assert seen.of("state").get("told") == (ledger.told and str(ledger.told))
    _compare_records(entries, seen.family("rec:"))
    _compare_in_flight(ledger, seen, now)
    _compare_ring(ledger, seen)
    held = {d for d, fields in seen.family("dest:").items() if {"broken", "paused"} & fields.keys()}
    assert held <= seen.of("held").keys()
    assert seen.of("places") == {e.id: e.counts_from for e in entries if e.counts_from}
    most = seen.of("state").get("unproven_most")
    assert most == (ledger.unproven_most and str(ledger.unproven_most))


def _indexes(seen: Seen) -> dict[str, Any]:
    return {
        "lanes": seen.family("lane:"),
        "requests": set(seen.family("cb:")),
        **{name: seen.of(name) for name in ("processing", "expiry", "sent", "dead")},
    }


def _expected(entries: list[Entry]) -> dict[str, Any]:
    lanes: dict[str, dict[str, int]] = {}
    for e in entries:
        if e.phase == "queued":
            lanes.setdefault(e.destination, {})[e.id] = e.due
    return {
        "lanes": lanes,
        "requests": {e.id for e in entries if e.phase not in {"sent", "cancelled"}},
        "processing": {e.id: e.place for e in entries if e.phase in LIVE},
        "expiry": {e.id: e.shown_end for e in entries if e.phase not in FINAL},
        "sent": {e.id: e.ended for e in entries if e.phase in {"sent", "cancelled"}},
        "dead": {e.id: e.ended for e in entries if e.phase == "dead"},
    }


def _compare_records(entries: list[Entry], records: dict[str, Any]) -> None:
    recorded = {e.id: e for e in entries if e.recorded}
    assert records.keys() == recorded.keys()
    for id, e in recorded.items():
        r = records[id]
        texts = (r["s"], r["d"], r.get("t"), "x" in r)
        assert texts == (e.phase, e.destination, e.token, e.cancelling), id
        used = [int(r.get(field, 0)) for field in ("a", "r", "th", "c")]
        assert used == [e.attempts, e.retries, e.throttled, e.crashes], id
        if e.phase in FINAL:
            assert (r["o"], int(r["f"])) == (e.reason, e.ended), id


def _compare_in_flight(ledger: Ledger, seen: Seen, now: int) -> None:
    """Leases that have ended may stay until something looks."""
    found = seen.family("inflight:")
    sending = ledger.within("sending")
    for e in sending:
        if e.lease > now:
            assert found.get(e.destination, {}).get(e.id) == e.lease, e.id
    allowed = {(e.destination, e.id) for e in sending}
    assert {(d, id) for d, ids in found.items() for id in ids} <= allowed


def _compare_ring(ledger: Ledger, seen: Seen) -> None:
    ring = seen.ring()
    for name in ring:
        own = "unproven" if seen.is_unproven(name) else "ring"
        assert name in seen.of(own) or not seen.of(f"dest:{name}"), f"{name} is in the other ring"
    assert ring.keys() == {e.destination for e in ledger.within("queued")}
    paused = {d for d, place in ring.items() if place == float("inf")}
    assert paused == {d for d in ring if ledger.is_paused(d)}
