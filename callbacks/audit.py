"""Do the books balance? Every structure held against every other, and against the counters."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from callbacks.books import LITERAL, PAGE, Books, Where, overview
from callbacks.model import State
from callbacks.paging import pages

_PHASES: Final = {
    State.QUEUED: frozenset({"queued"}),
    State.PROCESSING: frozenset({"claimed", "sending", "retry"}),
    State.SENT: frozenset({"sent"}),
    State.DEAD: frozenset({"dead"}),
    State.CANCELLED: frozenset({"cancelled"}),
}


def audit(books: Books) -> Iterator[str]:
    """Yield what is wrong, a line each; nothing where the books balance.

    Reads page by page and each callback in one step, so that traffic in the meantime is no
    finding. What no index names (a record, a request, a lane without its ring) is found too.
    """
    seen: set[str] = set()
    for lane in _family(books, "lane:"):
        yield from _wrong(books, books.members("lane:", lane), seen, lane)
        yield from _lane_problems(books, lane)
    for name in ("processing", "expiry", "sent", "dead"):
        yield from _wrong(books, books.members(name), seen)
    for family in ("rec:", "cb:"):
        yield from _wrong(books, _family(books, family), seen)
    for destination in books.waiting():
        yield from _lane_problems(books, destination)
    balance = overview(books.scripts).balance
    if balance:
        yield f"counters: accepted + replayed exceed what they became by {balance}"


def problems(where: Where) -> Iterator[str]:
    """Say what does not fit together in one callback, as of the instant that was read."""
    homes = {
        "lane": where.lane,
        "processing": where.lease,
        "sent": where.sent,
        "dead": where.dead,
    }
    names = [name for name, home in homes.items() if home is not None]
    if len(names) != 1:
        yield f"is in {' and '.join(names) or 'no structure'}"
        return
    live = names[0] in {"lane", "processing"}
    if live != (where.expiry is not None):
        yield "has no end of life" if live else "has an end of life and is final"
    if not where.kept and names[0] != "sent":
        yield "has lost its request"
    if where.kept and names[0] == "sent":
        yield "keeps its request although it is final"
    phase = where.record.get("s", "queued")
    if where.state is None or phase not in _PHASES[where.state]:
        yield f"is {where.state} and its record says {phase}"
    if where.inflight is not None and phase != "sending":
        yield "holds a request in flight and is not sending"


def _wrong(books: Books, ids: Iterator[str], seen: set[str], lane: str = "") -> Iterator[str]:
    for page in pages((id for id in ids if id not in seen), PAGE):
        seen.update(page)
        answers = books.scripts.run_many("where", [{"id": id, "lane": lane} for id in page])
        for id, answer in zip(page, answers, strict=True):
            where = Where(answer)
            if not _forgotten(where):
                yield from (f"{id}: {problem}" for problem in problems(where))


def _forgotten(where: Where) -> bool:
    """Tell whether a callback went for good between the page and the second look."""
    homes = (where.lane, where.lease, where.sent, where.dead, where.expiry)
    return not where.record and not where.kept and all(home is None for home in homes)


def _lane_problems(books: Books, name: str) -> Iterator[str]:
    waits, place = books.place(name)
    if waits != (place is not None):
        yield f"{name}: {'waits and is not' if waits else 'is empty and'} in the ring"


def _family(books: Books, name: str) -> Iterator[str]:
    prefix = books.keys.of(name)
    for raw in books.client.scan_iter(match=prefix.translate(LITERAL) + "*", count=500):
        yield raw.decode()[len(prefix) :]
