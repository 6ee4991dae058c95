"""The duties, each one pass that returns what it did.

An actor, the ticker, a command and a test call the same functions. They bring together the
batcher, the pure decisions and one sender; messages go out through `Messages`.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import islice
from typing import TYPE_CHECKING, Final, Protocol

from callbacks.batcher.errors import AWAY
from callbacks.batcher.history import Sample, greatest, latest_of_ten, take_sample
from callbacks.batcher.inspector import Inspector
from callbacks.batcher.memory import read_memory
from callbacks.batcher.paging import pages
from callbacks.batcher.shards import Shards
from callbacks.batcher.store import CLAIM_STEP, DEAD_STEP, Batcher
from callbacks.log import log
from callbacks.model import (
    Batch,
    Claimed,
    ClaimResult,
    Demand,
    Look,
    Recovered,
    Slots,
    Unlocked,
)
from callbacks.policy.flush import Flush, decide_flush
from callbacks.policy.room import UNREAD_MEMORY, decide_room
from callbacks.policy.stagger import Stagger, next_stagger
from callbacks.text import moment
from callbacks.units import ms

if TYPE_CHECKING:
    from callbacks.settings import Settings

#: A message asks to come so much before its slot; the rest is waited in the actor, so that
#: slots are met although messages arrive unevenly. Less than `store.MAX_WAIT_MS`.
LEAD_MS: Final = 100
#: Most of anything in one pass of the ticker.
PASS: Final = 100
LATE_PASS: Final = 250
#: Of each of three kinds, in one script: two milliseconds.
TRIM_PASS: Final = 150
#: To end one takes some fifteen commands; 50 hold Redis for two milliseconds.
EXPIRE_PASS: Final = 50
#: Most steps of one duty in one pass: 10,000 records in a few hundred ms.
STEPS: Final = 20


class Messages(Protocol):
    """Sends the messages that wake actors. Losing one costs seconds, nothing more."""

    def batch(self, claimed: Sequence[tuple[str, str, int]]) -> None:
        """Wake `send_single_callback` for each (id, token, delay_ms) after its delay."""
        ...

    def trigger(self, delay_ms: int) -> None:
        """Wake `trigger_batch_send` after `delay_ms`."""
        ...

    def check(self, delay_ms: int) -> None:
        """Wake `check_and_flush` after `delay_ms`."""
        ...

    def of(self, shard: int | None) -> Messages:
        """Make the messages of one of several shards; None: of the only one."""
        ...


# Dispatching


def dispatch_once(batcher: Batcher, messages: Messages) -> Batch | None:
    """Claim one batch under the lock and send its messages; None: another dispatcher is at it."""
    batcher.follow()
    owner = secrets.token_hex(16)
    fence = batcher.lock(owner)
    if not fence:
        return None
    try:
        slots = slots_once(batcher)
        batch = _claim(batcher, messages, owner, fence, slots)
    finally:
        unlocked = batcher.unlock(owner, fence)
    # Only now, with the lock free: it may come at once.
    trigger(messages, 0 if unlocked is Unlocked.MISSED else batch.arm_ms)
    _log_batch(batch)
    return batch


def dispatch_all(shards: Sequence[Batcher], messages: Messages) -> Batch | None:
    """Claim one batch in each shard; None: other dispatchers are at it everywhere.

    Where nothing was claimed, the result is that of a shard that claimed nothing either. A shard
    that is away keeps none of the others; raises its error if none has claimed anything.
    """
    found: list[Batch | None] = []
    first: Exception | None = None
    for one in shards:
        try:
            found.append(dispatch_once(one, messages.of(one.shard)))
        except AWAY as error:
            first = first or error
    if first is not None and not any(batch and batch.callbacks for batch in found):
        raise first
    batches = [batch for batch in found if batch]
    if not batches:
        return None
    claimed = [batch for batch in batches if batch.result is ClaimResult.CLAIMED]
    callbacks = tuple(one for batch in batches for one in batch.callbacks)
    return replace((claimed or batches)[0], callbacks=callbacks)


def slots_once(batcher: Batcher) -> Slots | None:
    """Get slots for a claim out of those of all shards; None: it keeps the stagger by itself."""
    pacer = batcher.pacer
    if pacer is None:
        pace_once(batcher)
        return None
    want = max(1, batcher.want())
    _decide_stagger(batcher.settings, pacer.demand(batcher, want), pacer.set_stagger)
    return pacer.slots(batcher)


def _claim(
    batcher: Batcher, messages: Messages, owner: str, fence: int, slots: Slots | None
) -> Batch:
    """Claim one batch step by step, so that no script is long, and send each step's messages."""
    batch = _claim_steps(batcher, messages, owner, fence, slots)
    unused = slots.count - len(batch.callbacks) if slots else 0
    if unused > 0 and batcher.pacer:
        batcher.pacer.hand_back(batcher, unused)
    return batch


def _claim_steps(
    batcher: Batcher, messages: Messages, owner: str, fence: int, slots: Slots | None
) -> Batch:
    batch = None
    while True:
        taken = len(batch.callbacks) if batch else 0
        if batch and slots and taken >= slots.count:
            return batch
        step = batcher.claim(owner, fence, taken=taken, slots=slots)
        messages.batch([_wake(claimed, step.now_ms) for claimed in step.callbacks])
        batch = _joined(batch, step)
        size = len(batch.callbacks)
        if len(step.callbacks) < CLAIM_STEP or size >= batcher.settings.batch_size:
            return batch


def _joined(batch: Batch | None, step: Batch) -> Batch:
    if batch is None:
        return step
    return replace(batch, arm_ms=step.arm_ms, callbacks=batch.callbacks + step.callbacks)


def pace_once(batcher: Batcher) -> Stagger | None:
    """Let arrivals, backlog and failures move the stagger; None: it is fixed."""
    s = batcher.settings
    if not s.adaptive or not s.send_interval:
        return None
    return _decide_stagger(s, batcher.demand(), batcher.set_stagger)


def _decide_stagger(
    s: Settings, demand: Demand, store: Callable[[Stagger], bool]
) -> Stagger | None:
    if not s.adaptive:
        return None
    stagger = next_stagger(
        demand,
        base_s=s.send_interval,
        min_s=s.send_interval_min,
        max_s=s.send_interval_max,
        drain_target_s=s.drain_target,
        batch_size=s.batch_size,
    )
    if store(stagger):
        log.info("stagger", interval_s=round(stagger.interval_s, 4), reason=stagger.why.value)
    return stagger


def _wake(claimed: Claimed, now_ms: int) -> tuple[str, str, int]:
    return claimed.id, claimed.token, max(0, claimed.slot_ms - now_ms - LEAD_MS)


def _log_batch(batch: Batch) -> None:
    if batch.callbacks:
        ahead = batch.callbacks[-1].slot_ms - batch.now_ms
        log.info("batch", size=len(batch.callbacks), spread_ms=ahead, next_in_ms=batch.arm_ms)
    elif batch.result in (ClaimResult.SATURATED, ClaimResult.LOCK_LOST):
        log.warning("batch", size=0, result=batch.result.name.lower())


@dataclass(frozen=True, slots=True)
class Checked:
    """What a check saw and did."""

    look: Look
    flush: Flush | None
    batch: Batch | None


def flush_once(batcher: Batcher, messages: Messages) -> Checked:
    """Look, decide, and dispatch a batch if one is due; else arm the next look where one helps."""
    settings = batcher.settings
    look = batcher.look()
    decision = decide_flush(
        look, batch_size=settings.batch_size, max_delay_ms=ms(settings.max_delay)
    )
    if isinstance(decision, Flush):
        log.info(
            "flush",
            reason=decision.reason.value,
            ready=look.ready,
            queued=look.queued,
            waited_ms=decision.waited_ms,
        )
        return Checked(look, decision, dispatch_once(batcher, messages))
    horizon_ms = ms(settings.check_interval) + ms(settings.max_delay)
    if decision.ms is not None and decision.ms <= horizon_ms and batcher.arm(decision.ms):
        messages.check(decision.ms)
    return Checked(look, None, None)


def trigger(messages: Messages, arm_ms: int | None) -> None:
    if arm_ms is not None:
        messages.trigger(arm_ms)


# Keeping promises


def wake_once(batcher: Batcher, messages: Messages) -> int:
    """Send a new message for each claimed callback that is late and not begun; how many.

    For each at once, where its message is lost. Where it is not, for the workers are slow, only
    some get yet another one.
    """
    read, repeats, woken = 0, max(PASS, batcher.settings.batch_size), 0

    def step() -> int:
        nonlocal read, repeats, woken
        late = batcher.wake(LATE_PASS, offset=read, repeats=repeats)
        if late.named:
            messages.batch([(id, token, 0) for id, token in late.named])
        read, repeats = read + late.read, repeats - late.repeats
        woken += len(late.named)
        return late.read

    _in_steps(step, LATE_PASS, steps=2 * STEPS)
    if woken:
        log.info("woken", count=woken)
    return woken


def recover_once(batcher: Batcher, *, chance: float) -> Recovered:
    """Take back what is past its lease, one bounded pass."""
    done = batcher.reclaim(PASS, chance=chance)
    if done != Recovered(0, 0, 0):
        log.warning("recovered", count=done.recovered, dead=done.dead, cancelled=done.cancelled)
    return done


def expire_once(batcher: Batcher) -> int:
    """End what is past its age, in bounded steps; how many."""
    expired = _in_steps(lambda: batcher.expire(EXPIRE_PASS), EXPIRE_PASS, steps=2 * STEPS)
    if expired:
        log.warning("expired", count=expired)
    return expired


def shorten_once(batcher: Batcher) -> int:
    """Bring destinations forward whose next slot was made before the interval got shorter.

    Once in the life of a process is enough: settings change between restarts alone.
    """
    all_moved = 0
    for unproven in (False, True):
        read, stay = PASS, 0
        while read == PASS:
            read, moved = batcher.shorten(PASS, offset=stay, unproven=unproven)
            stay, all_moved = stay + read - moved, all_moved + moved
    return all_moved


def note_holds_once(batcher: Batcher) -> int:
    """Forget destinations that are no longer held; how many still are."""
    held = Inspector(batcher.scripts).members("held")
    return sum(batcher.note_holds(step) for step in pages(islice(held, PASS * STEPS), PASS))


def trim_once(batcher: Batcher) -> int:
    """Forget old records in bounded steps, and refuse enqueues while memory is short; how many."""
    memory = read_memory(batcher.scripts)
    room = decide_room(memory, sent_max=batcher.sent_max, shards=batcher.shards)
    if memory is None:  # whether there is room is left to processes that may read it
        _warn_of_unread_memory()
    elif batcher.admit(full=room.full):
        consequence = "enqueue raises QueueFull" if room.full else None
        log.warning("memory", full=room.full, consequence=consequence)

    def step() -> int:
        trimmed = batcher.trim(TRIM_PASS, sent_max=room.sent_max, dead_max=room.dead_max)
        if room.dead_max is not None and trimmed.dead:
            log.warning("dead_letters_forgotten", count=trimmed.dead, reason="memory")
        return trimmed.sent + trimmed.dead

    return _in_steps(step, DEAD_STEP, steps=2 * STEPS)


@cache
def _warn_of_unread_memory() -> None:
    """Say once in a process what is left undone."""
    log.warning("memory", unread="this user may not run INFO", consequence=UNREAD_MEMORY)


def notify_once(batcher: Batcher, tell: Callable[[str, str], object]) -> int:
    """Tell `(callback_id, reason)` of each callback that died since the last pass; how many.

    At least once: a pass that fails in between tells of the same ones again.
    """

    def step() -> int:
        until_ms, deaths = batcher.deaths(PASS)
        for id, reason in deaths:
            tell(id, reason)
        batcher.notified(until_ms)
        return len(deaths)

    return _in_steps(step, PASS)


def sample_once(batcher: Batcher | Shards) -> Sample:
    """Take a sample of all totals and sizes for the history; call it once a minute."""
    sample = take_sample(batcher.scripts)
    before = latest_of_ten(batcher.scripts, sample.at_ms)
    home = batcher.home if isinstance(batcher, Shards) else batcher
    home.sample(sample, greatest([before, sample] if before else [sample]))
    return sample


def report_once(batcher: Batcher) -> int:
    """Log what people did since the last pass, whichever process did it; how many acts."""
    acts = batcher.report(PASS)
    for act in acts:
        log.info(
            "operator",
            act=act.act,
            target=act.target or None,
            who=act.who or None,
            reason=act.reason or None,
            count=act.count,
            at=moment(act.at),
        )
    return len(acts)


def _in_steps(step: Callable[[], int], full: int, *, steps: int = STEPS) -> int:
    """Repeat a bounded step while it comes back full, so that it keeps up with deliveries."""
    done = 0
    for _ in range(steps):
        some = step()
        done += some
        if some < full:
            break
    return done


def tick_once(batcher: Batcher, messages: Messages, *, chance: float) -> None:
    """Do every duty of a shard once, and report what people did.

    One that fails keeps none of the others from its turn; the first error is raised at the end.
    """
    do_all([*shard_duties(batcher, messages, chance=chance), lambda: report_once(batcher)])


def shard_duties(
    batcher: Batcher, messages: Messages, *, chance: float
) -> list[Callable[[], object]]:
    """The duties of one shard; `report_once` is one for all shards."""
    return [
        lambda: wake_once(batcher, messages),
        lambda: recover_once(batcher, chance=chance),
        lambda: expire_once(batcher),
        lambda: flush_once(batcher, messages),
        lambda: trim_once(batcher),
        lambda: note_holds_once(batcher),
    ]


def do_all(duties: Sequence[Callable[[], object]]) -> None:
    """Do every duty, although one fails; raises the first error when all had their turn."""
    first: Exception | None = None
    for duty in duties:
        try:
            duty()
        except Exception as error:  # noqa: BLE001 - raised below, after the others' turn
            first = first or error
    if first is not None:
        raise first
