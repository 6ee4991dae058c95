"""A ring of destinations with something waiting: a sorted set that is only read from its start."""

from __future__ import annotations

import heapq
import math

from scripts.simulation.records import Destination


class Ring:
    """Destinations by when they may next be claimed from.

    A destination knows its ring and its place; entries of the heap that say otherwise are void.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Destination]] = []

    def put(self, destination: Destination, place: int) -> None:
        """Give a destination this place; it leaves the one that it had in any ring."""
        destination.ring, destination.place = self, place
        heapq.heappush(self._heap, (place, destination.number, destination))

    def join(self, destination: Destination, place: int) -> None:
        """Do so, unless its place here is sooner."""
        if destination.ring is not self or place < destination.place:
            self.put(destination, place)

    def first(self) -> float:
        """The soonest place; infinity if nothing waits."""
        heap = self._heap
        while heap:
            place, _, destination = heap[0]
            if destination.ring is self and destination.place == place:
                return place
            heapq.heappop(heap)
        return math.inf

    def take(self, now: int, most: int) -> list[Destination]:
        """Take the first ones whose time has come; who takes them puts them back."""
        taken: list[Destination] = []
        heap = self._heap
        while heap and heap[0][0] <= now and len(taken) < most:
            place, _, destination = heapq.heappop(heap)
            if destination.ring is self and destination.place == place:
                destination.ring = None
                taken.append(destination)
        return taken

    def put_back(self, destinations: list[Destination]) -> None:
        """Put back what was taken, each at its place."""
        for destination in destinations:
            self.put(destination, destination.place)

    def until(self, when: float) -> list[Destination]:
        """All whose time comes by then, in no order."""
        found = {
            destination
            for place, _, destination in self._heap
            if place <= when and destination.ring is self and destination.place == place
        }
        return sorted(found)
