"""The machine over several shards: each has its own model, and calls go to one after the other.

Whatever is done in one shard, the others stay as their models say. Ids and destinations are not
routed here (see `test_shards`): each shard may get any.
"""

from __future__ import annotations

from typing import Any, Final

from hypothesis import strategies as st
from hypothesis.stateful import rule

from callbacks.batcher.inspector import overview
from callbacks.batcher.shards import Shards
from callbacks.settings import Settings
from tests.redis.bench import ShardBench
from tests.redis.ledger import Ledger
from tests.redis.machine import Machine

COUNT: Final = 3
#: What the driver has of each shard.
_OWN: Final = (
    "bench", "batcher", "ledger", "before", "seen", "audited", "sound", "nonces", "batches",
    "tokens",
)  # fmt: skip


class ShardedMachine(Machine):
    """All rules of the machine, in the shard whose turn it is."""

    shards: Shards

    def begin_anew(self, settings: Settings) -> None:
        # The stagger is not a matter of one shard, see `test_pacer`.
        settings = settings.model_copy(update={"shards": COUNT, "send_interval": 0.0})
        whole = type(self).bench
        whole.begin_anew(settings)
        self.shards = Shards(whole.client, settings, verbs=whole.verbs)
        self._others: dict[int, dict[str, Any]] = {}
        for shard in range(COUNT):
            batcher = self.shards.shards[shard]
            self.bench = ShardBench(whole, batcher)  # type: ignore[misc]  # a class variable there
            self.batcher, self.ledger = batcher, Ledger(settings.model_copy(update=_part(settings)))
            self.before = self.seen = self.audited = self.bench.see()
            self.sound, self.nonces = True, 1_000 * shard
            self.batches, self.tokens = {}, [("c-0", "of nobody", 1)]
            self._others[shard] = {name: getattr(self, name) for name in _OWN}
        self._shard = COUNT - 1

    @rule(shard=st.integers(0, COUNT - 1))
    def turn(self, shard: int) -> None:
        self.check()
        self._others[self._shard] = {name: getattr(self, name) for name in _OWN}
        for name, value in self._others[shard].items():
            setattr(self, name, value)
        self._shard = shard
        self.before = self.seen = self.bench.see()
        self.sound = False
        self.check()

    def teardown(self) -> None:
        if not self.sound:  # it has failed already
            return
        for shard in range(COUNT):
            self.turn(shard)
            super().teardown()
        assert overview(self.shards.scripts).balance == 0


def _part(settings: Settings) -> dict[str, Any]:
    """What one shard has of what is limited over all."""
    return {
        "max_queued": -(-settings.max_queued // COUNT),
        "sent_max": -(-settings.sent_max // COUNT),
    }
