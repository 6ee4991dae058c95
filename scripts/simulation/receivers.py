"""How receivers answer. What an answer means is asked of the package once for each of them."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import Final

from callbacks.model import Answer, Reason
from callbacks.policy.outcome import Classification, classify
from callbacks.units import ms

#: So many different times to answer; a power of two.
_KINDS: Final = 4_096

#: An answer, what it means, how long it took in ms.
Said = tuple[Answer, Classification, int]


def said(answer: Answer) -> Said:
    """An answer with what the package makes of it."""
    return answer, classify(answer, now_s=0.0), ms(answer.duration)


@dataclass(slots=True)
class Receiver:
    """What destinations of one kind answer. `answers`: one of these, at random."""

    name: str
    answers: list[Said]
    is_well: bool = True

    def answer(self, chance: random.Random) -> Said:
        """The next answer."""
        answers = self.answers
        return answers[0] if len(answers) == 1 else answers[chance.getrandbits(12)]


def quick(name: str, took_s: float) -> Receiver:
    """One that always answers 200 after the same time."""
    return Receiver(name, [said(Answer(200, None, duration=took_s))])


def usual(
    name: str, median_s: float, sigma: float, chance: random.Random, *, is_well: bool = True
) -> Receiver:
    """One that answers 200 after a time that is distributed log-normally, at most 5 s.

    `is_well`: it stays so.
    """
    mu = math.log(median_s)
    times = [min(5.0, chance.lognormvariate(mu, sigma)) for _ in range(_KINDS)]
    answers = [said(Answer(200, None, duration=round(each, 3))) for each in times]
    return Receiver(name, answers, is_well)


def hanging(name: str, deadline_s: float) -> Receiver:
    """One that never answers."""
    answer = Answer(None, Reason.TIMEOUT, duration=deadline_s)
    return Receiver(name, [said(answer)], is_well=False)
