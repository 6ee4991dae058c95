"""The request that all contenders send: the same body, headers and kind of signature."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from callbacks.request.envelope import body_of
from callbacks.request.signature import sign, verify

SECRET: Final = "whsec_" + "YmVuY2htYXJr" * 3
DATA: Final = {
    "task_id": "t-0123456789",
    "status": "succeeded",
    "images": [f"https://images.example/results/0123456789abcdef/{n}.png" for n in range(2)],
    "seconds": 4.25,
}
BODY: Final = body_of(
    DATA,
    event="image.completed",
    environment="production",
    now=datetime(2026, 1, 2, 3, 4, 5, 678901, UTC),
    limit=10_000,
)
EXPECTED: Final = (
    "content-type",
    "user-agent",
    "webhook-id",
    "webhook-timestamp",
    "webhook-attempt",
    "webhook-signature",
)


def headers(id: str) -> dict[str, str]:
    """The headers of one request, signed now."""
    now_s = int(time.time())
    return {
        "content-type": "application/json",
        "user-agent": "callbacks/benchmark",
        "webhook-id": id,
        "webhook-timestamp": str(now_s),
        "webhook-attempt": "1",
        "webhook-signature": sign([SECRET], id, now_s, BODY),
    }


def check(got: Mapping[str, str], body: bytes) -> None:
    """Raise unless headers (in lower case) and body are those that all have to send."""
    missing = [name for name in EXPECTED if name not in got]
    if missing or len(body) != len(BODY):
        raise AssertionError(f"not the common request: {missing} missing, a body of {len(body)}")
    verify([SECRET], got, body, time.time())
