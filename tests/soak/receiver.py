"""The receiver's side: it fails as planned, and records every answer."""

from __future__ import annotations

from typing import Final

from tests.soak.plan import Mood, lane, mood
from tests.soak.verdict import Request
from tests.support.target import Hit, Response, Target

#: Longer than the senders' deadline, by what a stopped one may take to notice.
_SILENCE_S: Final = 4.0


class Receiver(Target):
    """A target whose behaviour follows from the seed."""

    def __init__(self, seed: int) -> None:
        super().__init__(self._say)
        self.seed = seed
        self.requests: list[Request] = []

    def url_of(self, number: int) -> str:
        """The URL of callback `number`."""
        return f"{self.url}/{lane(number)}"

    def _say(self, hit: Hit, nth: int) -> Response:
        said, after_s = mood(self.seed, hit.id, nth)
        # Before it is sent: every answer that a sender got is recorded.
        self.requests.append(Request(hit.id, hit.attempt, said, hit.at_s))
        if said in {Mood.OK, Mood.BUSY}:
            return Response(200 if said is Mood.OK else 503, delay_s=after_s)
        return Response(delay_s=_SILENCE_S if said is Mood.SILENT else after_s, drop=True)
