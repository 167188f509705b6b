"""The most streams that hold: doubling until they do not, then halving the gap. Pure."""

from __future__ import annotations

from collections.abc import Callable


def most_that_hold(holds: Callable[[int], bool], first: int, most: int) -> int:
    """The largest count, of 1 .. ``most``, for which ``holds`` said yes; 0 if it never did.

    To within a thirty-second of it, which is exact below 64. Trials begin with ``first`` and are
    never repeated: more streams than hold are taken never to hold.
    """
    good, bad = 0, most + 1
    count = min(first, most)
    while good < bad - 1:
        if holds(count):
            good = count
        else:
            bad = count
        if bad - good <= max(1, good // 32):
            break
        count = min(2 * good, most) if bad > most else (good + bad) // 2
    return good
