"""How several shards share what is limited over all, as a pure function."""

from __future__ import annotations

from collections.abc import Sequence


def fair_shares(total: int, wants: Sequence[int]) -> list[int]:
    """Divide `total`: who wants little gets that, the others share the rest evenly.

    What nobody wants is divided evenly, so that it can be used before the next division. The sum
    is `total` (max-min fairness, e.g. Bertsekas and Gallager, Data Networks, 6.5.2).
    """
    shares = [0] * len(wants)
    left = total
    for place, n in enumerate(sorted(range(len(wants)), key=wants.__getitem__)):
        shares[n] = min(wants[n], left // (len(wants) - place))
        left -= shares[n]
    more, rest = divmod(left, len(wants)) if wants else (0, 0)
    return [share + more + (n < rest) for n, share in enumerate(shares)]
