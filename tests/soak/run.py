"""One soak, from the empty server to the evidence."""

from __future__ import annotations

import threading
import time
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Final

import redis

from callbacks.batcher.client import connect
from callbacks.batcher.inspector import Inspector, overview
from callbacks.batcher.shards import Shards
from callbacks.settings import load_settings
from tests.soak.diary import Diary
from tests.soak.faults import Striker
from tests.soak.operator import Operator, read_records
from tests.soak.plan import Plan
from tests.soak.producer import Producer
from tests.soak.receiver import Receiver
from tests.soak.servers import Cluster, OneRedis
from tests.soak.system import System
from tests.soak.verdict import Seen

#: After the last burst and the last fault, time for open breakers and crashed callbacks (due again
#: after up to 60 s) to finish.
SETTLE_S: Final = 300.0
#: A full queue delays the producer. It gives up this long after the last burst's time.
HAND_IN_S: Final = 600.0
_POLL_S: Final = 0.2


def run(plan: Plan, folder: Path, diary: Diary, *, is_cluster: bool = False) -> Seen:
    """Carry out the plan, wait until everything is settled, and read what was recorded."""
    with Receiver(plan.seed) as receiver:
        system = System(folder, diary, Cluster() if is_cluster else OneRedis())
        try:
            return _Soak(plan, system, receiver, diary).run()
        finally:
            system.stop()


class _Soak:
    def __init__(self, plan: Plan, system: System, receiver: Receiver, diary: Diary) -> None:
        self.plan, self.system, self.receiver, self.diary = plan, system, receiver, diary
        self.producer = Producer(system.environ, receiver.url_of, diary)
        self.settings = load_settings(system.environ)
        self.client = connect(self.settings)
        shards = Shards(self.client, self.settings)
        self.inspector = Inspector(shards.scripts)
        undisturbed = system.servers.undisturbed
        self.operator = Operator(shards, self.producer.accepted, diary, undisturbed)
        self.striker = Striker(system, diary)
        #: For the producer, and in total.
        self.closed, self.ended = threading.Event(), threading.Event()
        self.troubles: list[str] = []

    def run(self) -> Seen:
        with ThreadPoolExecutor(4) as threads:
            supervisor = threads.submit(self.system.supervise, self.ended)
            try:
                faults = threads.submit(self.striker.run, self.plan.faults, self.ended)
                bursts = threads.submit(self.producer.run, self.plan.bursts, self.closed)
                deeds = threads.submit(self.operator.run, self.plan.deeds, self.ended)
                self._await_work({faults, bursts, deeds}, supervisor)
                waiting = self._await_settled(supervisor)
            finally:
                self.closed.set()
                self.ended.set()
        supervisor.result()
        return self._see(waiting)

    def _await_work(self, work: set[Future[None]], supervisor: Future[None]) -> None:
        """All have to finish; an error in any of them is raised here."""
        left = {*work, supervisor}
        until_s = self.plan.bursts[-1].at_s + HAND_IN_S
        while left > {supervisor}:
            patience_s = max(1.0, until_s - self.diary.elapsed())
            done, left = wait(left, patience_s, return_when=FIRST_COMPLETED)
            for each in done:
                each.result()
            if not done:
                self.closed.set()
        accepted = len(self.producer.accepted)
        if accepted < self.plan.count:
            self.troubles.append(f"only {accepted} of {self.plan.count} could be handed in")
        self.diary.note(f"{accepted} callbacks are handed in and all faults have struck")

    def _await_settled(self, supervisor: Future[None]) -> int:
        """Wait for the end; return how many are still queued or processing."""
        give_up = time.monotonic() + SETTLE_S
        while True:
            waiting = self._waiting()
            if waiting == 0 or time.monotonic() > give_up or supervisor.done():
                self.diary.note(f"the end: {waiting} are not settled")
                return waiting if waiting >= 0 else 1
            time.sleep(_POLL_S)

    def _waiting(self) -> int:
        try:
            now = overview(self.inspector.scripts)
        except redis.RedisError:
            return -1
        return now.queued + now.processing

    def _see(self, waiting: int) -> Seen:
        return Seen(
            accepted=dict(self.producer.accepted),
            requests=list(self.receiver.requests),
            records=read_records(self.inspector, sorted(self.producer.accepted)),
            totals=overview(self.inspector.scripts).totals,
            waiting=waiting,
            audit=self.system.audit(),
            troubles=[*self.troubles, *self.system.troubles, *self.operator.troubles],
            lives=self.operator.lives,
            purged=self.operator.purged,
            cancels=self.operator.cancels,
            risks=self.striker.risks,
            shards=self.system.servers.shards,
        )
