"""All shards of one system: routes each call to the shard that knows, and the rest to all of them.

A destination, lane included, belongs to one shard, which has its queue, records, pace, breaker and
counters, and claims and ticks by itself; so what is promised of a destination is a matter of one
shard. With one shard this only passes calls on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, TypeVar

import redis
from redis import Redis, RedisError

from callbacks.batcher import replies
from callbacks.batcher.errors import AWAY
from callbacks.batcher.pacer import AWAY_S, Pacer
from callbacks.batcher.paging import pages
from callbacks.batcher.routes import (
    AllScripts,
    by_shard,
    grouped,
    least,
    own_shard,
    raise_for,
    shard_of,
    shard_of_token,
    with_shard,
)
from callbacks.batcher.scripts import VERBS, Verb, raise_first
from callbacks.batcher.store import ENQUEUE_STEP, HERE, RESERVED, Batcher
from callbacks.batcher.times import Times
from callbacks.log import log
from callbacks.model import Cancelled, Item, Look, SettingsError, Stored

if TYPE_CHECKING:
    from callbacks.settings import Settings

_T = TypeVar("_T")

#: For a callback whose id another shard has: so it is for another destination.
_KNOWN: Final = Stored(accepted=False, conflict=True)


@dataclass(frozen=True, slots=True)
class Word:
    """What a shard tells at a glance: whether a callback has not ended, and when a batch was last.

    `epoch`: what identifies its data; `full`: it refuses enqueues; `paused`: everything is, as far
    as it knows; `all_paused`: everything is.
    """

    live: bool
    last_batch_ms: int
    epoch: str
    full: bool
    paused: bool = False
    all_paused: bool = False


def _word(live: Any, state: Any, all_paused: Any) -> Word | None:
    if isinstance(live, Exception) or isinstance(state, Exception):
        return None
    last, epoch, full, paused = state
    of_all = paused if isinstance(all_paused, Exception) else all_paused
    known = replies.text(epoch or b"")
    return Word(bool(live), int(last or 0), known, bool(full), bool(paused), bool(of_all))


def _is_paused(home: Batcher) -> tuple[str, ...]:
    """Ask whether everything is paused."""
    return "HEXISTS", home.scripts.keys.of("state"), "paused"


class Shards:
    """The batcher as a whole. Methods raise as those of `Batcher`.

    The first use of each process also checks the number of shards, and raises `SettingsError` if
    the data in Redis have another one.
    """

    def __init__(
        self,
        client: Redis,
        settings: Settings,
        *,
        verbs: Mapping[str, Verb] = VERBS,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._monotonic = monotonic
        self._home_away_until = float("-inf")
        self.settings = settings
        self.client = client
        self.count = settings.shards
        self.times = Times()
        self._home = Batcher(client, settings, verbs=verbs, times=self.times)
        self._shards: tuple[Batcher, ...] = (self._home,)
        self.pacer = Pacer(self._home) if self.count > 1 and settings.send_interval else None
        if self.count > 1:
            self._shards = tuple(self._made(client, shard, verbs) for shard in range(self.count))
        self._scripts = AllScripts(self._home.scripts, [one.scripts for one in self._shards])
        self._agreed = self._checked = False

    def _made(self, client: Redis, shard: int, verbs: Mapping[str, Verb]) -> Batcher:
        return Batcher(
            client,
            self.settings,
            verbs=verbs,
            shard=shard,
            pacer=self.pacer,
            times=self.times,
            forgotten=lambda ids: self.forget(shard, ids),
            follow=lambda: self._follow_pause(shard),
        )

    def agree(self, *, keep: bool = True) -> None:
        """Make sure that all processes have the same number of shards.

        `keep`: store ours, if there is none yet; else this changes nothing.
        """
        if self._agreed or (self._checked and not keep):
            return
        found = self._home.agree(self.count, keep=keep)
        if found != self.count:
            raise SettingsError(
                f"CALLBACKS_SHARDS is {self.count}, but the data in Redis are in {found}"
                f" {'shard' if found == 1 else 'shards'}, which is fixed at first use; expected"
                f" CALLBACKS_SHARDS={found}, or another CALLBACKS_NAMESPACE for new data"
            )
        self._agreed, self._checked = keep, True

    @property
    def shards(self) -> tuple[Batcher, ...]:
        """All shards, in order."""
        self.agree(keep=False)
        return self._shards

    @property
    def home(self) -> Batcher:
        """The verbs for what belongs to no shard: the ticker, workers, the journal."""
        self.agree(keep=False)
        return self._home

    @property
    def scripts(self) -> AllScripts:
        """The scripts of all shards, for `inspector`."""
        self.agree(keep=False)
        return self._scripts

    # Routing

    def of(self, destination: str) -> Batcher:
        """The shard of a destination."""
        return self.shards[shard_of(destination, self.count)]

    def of_token(self, token: str) -> Batcher:
        """The shard of a claim; one that does not exist has no such claim either."""
        if self.count == 1:
            return self.home
        shard = shard_of_token(token)
        return self.shards[shard % self.count if shard is not None else 0]

    def chosen(self, shard: int | None) -> tuple[Batcher, ...]:
        """The shard that a message names; or else those that have something to do."""
        if self.count == 1:
            return self.shards
        if shard is None:
            return self.busy()
        return self.shards[shard : shard + 1]

    def busy(self) -> tuple[Batcher, ...]:
        """The shards with callbacks that have not ended, of those that can be reached."""
        return tuple(one for one, live in zip(self.shards, self._lives(), strict=True) if live == 1)

    def _lives(self) -> list[Any]:
        """Ask each shard whether it has callbacks that have not ended: 1 or 0, or its error."""
        keys = [one.scripts.keys.of("expiry") for one in self.shards]
        return self._home.scripts.stream_each(("EXISTS", key) for key in keys)

    def words(self) -> list[Word | None]:
        """Read whether each shard has something to do, with two plain commands each, and one more.

        None: its Redis is away.
        """
        home = self._home.scripts
        commands: list[tuple[str, ...]] = [_is_paused(self._home)]
        for one in self.shards:
            keys = one.scripts.keys
            commands.append(("EXISTS", keys.of("expiry")))
            commands.append(("HMGET", keys.of("state"), "last_batch", "epoch", "full", "paused"))
        all_paused, *found = home.stream_each(commands)
        both = zip(found[::2], found[1::2], strict=True)
        return [_word(live, state, all_paused) for live, state in both]

    def follow(self, words: Sequence[Word | None]) -> None:
        """Pause or resume the shards that were away when everything was."""
        for shard, word in enumerate(words):
            if word is not None and word.paused != word.all_paused:
                self._hand_on(shard, paused=word.all_paused)

    def _hand_on(self, shard: int, *, paused: bool) -> None:
        one = self._shards[shard]
        if paused:
            one.pause()
        else:
            one.resume()
        log.warning("pause_handed_on", shard=shard, paused=paused)

    def _follow_pause(self, shard: int) -> None:
        """Pause a shard that is about to claim although everything is paused.

        It was away when that was done, and may claim before the next look of the ticker. While
        what knows of the pause is away itself, the shards go on.
        """
        if self._monotonic() < self._home_away_until:
            return
        try:
            (paused,) = self._home.scripts.stream([_is_paused(self._home)])
        except AWAY:
            self._home_away_until = self._monotonic() + AWAY_S
            return
        if paused:
            self._hand_on(shard, paused=True)

    def away(self) -> dict[int, Exception]:
        """The shards that cannot be reached, and why; takes no longer than one command."""
        if self.count == 1:
            return {}
        return {n: error for n, error in enumerate(self._lives()) if isinstance(error, AWAY)}

    def _having(self, id: str) -> Batcher:
        """The shard that has a callback, or would have."""
        (found,) = self.scripts.locate([id])
        return self._shards[self._scripts.shards.index(found)]

    # Enqueueing

    def name(self, id: str, destination: str) -> str:
        """Complete a minted id: where there are several shards, it names that of its callback."""
        if self.count == 1:
            return id
        return with_shard(id, shard_of(destination, self.count))

    def enqueue(self, item: Item) -> Stored:
        """Store one callback; when this returns, it is accepted. Raises `QueueFull`."""
        self.agree()
        if self.count == 1:
            return self.home.enqueue(item)
        place = shard_of(item.destination, self.count)
        if own_shard(item.id, self.count) == place:  # as with minted ids: nothing to reserve
            stored = self._shards[place].enqueue(item)
            if stored is not replies.ELSEWHERE:
                return replace(stored, shard=place) if stored.signal else stored
        (result,) = self.enqueue_many([item])
        if isinstance(result, Exception):
            raise result
        return result

    def enqueue_many(
        self, items: Iterable[Item], *, step_size: int = ENQUEUE_STEP
    ) -> list[Stored | Exception]:
        """Store many callbacks; for one that was not stored, the list has its error."""
        self.agree()
        if self.count == 1:
            return self.home.enqueue_many(items, step_size=step_size)
        return _Enqueue(self.shards, list(items), step_size).run()

    def forget(self, shard: int, ids: Sequence[str]) -> None:
        """Delete the reservations of callbacks that a shard has forgotten.

        One that is away keeps none of the others; raises the first error at the end.
        """
        first: Exception | None = None
        own = grouped(ids, lambda one: own_shard(one, self.count))
        for place, theirs in own.items():
            if place == shard:
                continue
            try:
                self._shards[place].unreserve(theirs, shard)
            except RedisError as error:
                first = first or error
        if first is not None:
            raise first

    def mend_reservation(self, id: str, shard: int) -> str:
        """Make an id's reservation agree with the shard that has its callback, or has not."""
        own = self.shards[own_shard(id, self.count)]
        if not self._shards[shard].scripts.has(id):
            done = own.unreserve([id], shard)
            return "its reservation was deleted" if done else "it is too young to be deleted"
        there = self.scripts.reserved([id])[0]
        if there is None:
            own.reserve([(id, shard)])
        elif not own.transfer(id, there, shard):
            return "it is too young to be changed"
        return f"it is reserved for shard {shard} now"

    # What is known of all

    def look(self) -> Look:
        """Read what is waiting, over all shards."""
        looks = [replies.look(answer) for answer in self.scripts.run_in_all("look", {})]
        if len(looks) == 1:
            return looks[0]
        return Look(
            now_ms=max(look.now_ms for look in looks),
            paused=all(look.paused for look in looks),
            ready=sum(look.ready for look in looks),
            oldest_due_ms=least(look.oldest_due_ms for look in looks),
            next_ready_ms=least(look.next_ready_ms for look in looks),
            queued=sum(look.queued for look in looks),
            processing=sum(look.processing for look in looks),
            trigger_lost=any(look.trigger_lost for look in looks),
        )

    def is_due(self) -> bool:
        """Tell whether a shard that can be reached has callbacks to send now, or in work."""
        answers = self.scripts.home.run_across("look", ((one, {}) for one in self.scripts.shards))
        reached = [answer for answer in answers if not isinstance(answer, AWAY)]
        looks = map(replies.look, raise_first(reached))
        return any(not look.paused and look.ready + look.processing > 0 for look in looks)

    def scheduled(self) -> None:
        """Remember that the scheduler was seen just now."""
        self.home.scheduled()

    def turn(self, what: str, every_ms: int) -> bool:
        """Tell whether it is this process's turn at what one of all does once in a while."""
        return self.home.turn(what, every_ms)

    def journal(self, entry: str) -> None:
        """Write down what a person did."""
        self.home.journal(entry)

    # Steering; `entry`: for the journal, which is one for all shards

    def cancel(self, id: str, *, entry: str = "") -> Cancelled:
        """Make sure that a callback is not sent, or not again."""
        if self.count == 1:
            return self.home.cancel(id, entry=entry)
        done = self._having(id).cancel(id)
        if done in {Cancelled.CANCELLED, Cancelled.IN_FLIGHT}:
            self._note(entry)
        return done

    def pause(self, destination: str | None = None, *, entry: str = "") -> int:
        """Pause all, one destination, or the lanes of a host; how many requests are in flight."""
        if self.count == 1:
            return self.home.pause(destination, entry=entry)
        if destination is None:
            self.home.pause(entry=entry)
        if destination is None or destination.endswith("#*"):
            return sum(self._in_all(lambda one: one.pause(destination, entry=entry)))
        self._note(entry)
        return self.of(destination).pause(destination, entry=entry)

    def withdraw(self, destinations: Sequence[str]) -> int:
        """Take paused destinations off the turns of their rings; their requests in flight."""
        found = by_shard(destinations, self.count)
        return sum(self.shards[shard].withdraw(names) for shard, names in found.items())

    def resume(
        self, destination: str | None = None, *, nonce: str | None = None, entry: str = ""
    ) -> bool:
        """Resume all, one destination, or the lanes of a host; False if nothing to do."""
        if self.count == 1:
            return self.home.resume(destination, nonce=nonce, entry=entry)
        self._note(entry)
        # All first, as in `pause`: a shard that is away follows it, see `follow`.
        changed = destination is None and self.home.resume(nonce=nonce)
        if destination is None or destination.endswith("#*"):
            return any([changed, *self._in_all(lambda one: one.resume(destination, nonce=nonce))])
        return self.of(destination).resume(destination, nonce=nonce)

    def call_back(self, lanes: Sequence[str]) -> bool:
        """Resume lanes of a resumed host; False if none was itself paused, on hold or broken."""
        found = by_shard(lanes, self.count)
        return sum(self.shards[shard].call_back(names) for shard, names in found.items()) > 0

    def forgive(self, callback_url: str, *, nonce: str | None = None, entry: str = "") -> bool:
        """Remove the 410 mark of a URL, whichever lanes have met it; False if it had none."""
        if self.count == 1:
            return self.home.forgive(callback_url, nonce=nonce, entry=entry)
        self._note(entry)
        return any(self._in_all(lambda one: one.forgive(callback_url, nonce=nonce)))

    def unhold(self) -> bool:
        """Let callbacks expire again; False if they already do."""
        return any(self._in_all(Batcher.unhold))

    def replay(self, ids: Sequence[str], *, nonce: str | None = None) -> int:
        """Put dead letters back into the queue; how many of `ids` were dead letters."""
        return self._with_each(ids, lambda one, theirs: one.replay(theirs, nonce=nonce))

    def purge(self, ids: Sequence[str], *, nonce: str | None = None) -> int:
        """Delete dead letters; how many of `ids` were dead letters."""

        def purge(one: Batcher, theirs: Sequence[str]) -> int:
            purged = one.purge(theirs, nonce=nonce)
            if one.shard is not None and purged:
                self.forget(one.shard, self._gone(one, theirs))
            return purged

        return self._with_each(ids, purge)

    def _with_each(self, ids: Sequence[str], act: Callable[[Batcher, list[str]], int]) -> int:
        """Have each shard act on those of its callbacks; return the sum."""
        shards = {one.scripts: one for one in self.shards}
        having = dict(zip(ids, self.scripts.locate(ids), strict=True))
        found = grouped(ids, lambda one: shards[having[one]])
        return sum(act(one, theirs) for one, theirs in found.items())

    def _gone(self, one: Batcher, ids: Sequence[str]) -> list[str]:
        """Those of which a shard has no record."""
        kept = one.scripts.stream(("EXISTS", one.scripts.keys.of("rec:", id)) for id in ids)
        return [id for id, known in zip(ids, kept, strict=True) if not known]

    def _in_all(self, act: Callable[[Batcher], _T]) -> list[_T]:
        """Do it in each shard, although one is away; raises an error that names those.

        Those that are away are found out together: each for itself would take its timeouts.
        """
        answers: list[Any] = []
        away = self.away()
        for n, one in enumerate(self.shards):
            try:
                answers.append(away[n] if n in away else act(one))
            except redis.RedisError as error:
                answers.append(error)
                away |= self.away()
        raise_for(answers)
        return answers

    def _note(self, entry: str) -> None:
        if entry:
            self.home.journal(entry)


class _Enqueue:
    """One call that stores callbacks in several shards; `results`, in the order of `items`."""

    def __init__(self, shards: Sequence[Batcher], items: Sequence[Item], step_size: int) -> None:
        self.shards = shards
        self.items = items
        self.step_size = step_size
        self.results: list[Stored | Exception] = [_KNOWN] * len(items)
        count = len(shards)
        self.places = [shard_of(item.destination, count) for item in items]
        self.own = [own_shard(item.id, count) for item in items]

    def run(self) -> list[Stored | Exception]:
        """Reserve ids of the caller's own where that is needed, then store the callbacks."""
        foreign = [n for n, own in enumerate(self.own) if own != self.places[n]]
        skipped = self._reserve(foreign) if foreign else set()
        refused = self._store([n for n in range(len(self.items)) if n not in skipped])
        for n in refused:
            self._store_elsewhere(n)
        return self.results

    def _reserve(self, foreign: Sequence[int]) -> set[int]:
        """Reserve ids in their own shards; returns which callbacks are not to be stored."""
        groups = self._grouped(foreign, self.own)
        calls = (
            (
                self.shards[own].scripts,
                {"items": [word for n in group for word in (self.items[n].id, self.places[n])]},
            )
            for own, group in groups
        )
        # Durable: a callback whose reservation is lost with a primary is not found by its id.
        answers = self.shards[0].scripts.run_across("reserve", calls, durable=True)
        skipped: set[int] = set()
        for (_, group), answer in zip(groups, answers, strict=True):
            for n, code in zip(group, _each(answer, len(group)), strict=True):
                if isinstance(code, Exception):
                    self.results[n] = code
                elif code == RESERVED or (code >= 0 and self._moves(n, code)):
                    continue
                skipped.add(n)
        return skipped

    def _store(self, chosen: Sequence[int]) -> list[int]:
        """Store callbacks; returns those that other shards' reservations refuse."""
        groups = self._grouped(chosen, self.places)
        calls = (
            (
                self.shards[place].scripts,
                {"items": [word for n in group for word in self.items[n]]},
            )
            for place, group in groups
        )
        refused = []
        answers = self.shards[0].scripts.run_across("enqueue", calls, durable=True)
        for (place, group), answer in zip(groups, answers, strict=True):
            for n, stored in zip(group, replies.results(answer, len(group)), strict=True):
                if isinstance(stored, Stored) and stored.signal:
                    stored = replace(stored, shard=place)  # noqa: PLW2901 - the same, completed
                if stored is replies.ELSEWHERE:
                    refused.append(n)
                else:
                    self.results[n] = stored
        return refused

    def _store_elsewhere(self, n: int) -> None:
        """Store a callback whose own shard is its destination's, but reserved for another one."""
        item, place = self.items[n], self.places[n]
        (code,) = self.shards[place].reserve([(item.id, place)])
        if code == HERE or (code >= 0 and not self._moves(n, code)):
            return
        self._store([n])

    def _moves(self, n: int, before: int) -> bool:
        """Give up a reservation for another shard that has no such callback; False: it is known."""
        id = self.items[n].id
        if self.shards[before].scripts.has(id):
            return False
        return self.shards[self.own[n]].transfer(id, before, self.places[n])

    def _grouped(self, chosen: Sequence[int], by: Sequence[int]) -> list[tuple[int, list[int]]]:
        """The chosen callbacks by shard, in steps of a script call."""
        return [
            (shard, step)
            for shard, group in grouped(chosen, by.__getitem__).items()
            for step in pages(group, self.step_size)
        ]


def _each(answer: Any, count: int) -> list[Any]:
    """The codes of a `reserve`, or its error for each."""
    if isinstance(answer, Exception):
        return [replies.as_room(answer)] * count
    return list(answer)
