"""Splits speakers into training and validation by a seed; clips where there is one speaker.

A split is a function of the seed and the names alone, so that it can be made before any video is
read and made again by anyone.
"""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Literal

from kfusion.errors import DataError

Split = Literal["train", "validation"]


class LeakError(DataError):
    """The same speaker or the same recording on both sides of a split."""


def _name_hash(name: str, seed: int) -> bytes:
    return hashlib.sha256((f"{seed}:{name}" if seed else name).encode()).digest()


def split_of_clip(name: str, seed: int = 0, share: float = 0.1) -> Split:
    """By clip: held out where the first byte of sha256 of the name is under 256 x share."""
    return "validation" if _name_hash(name, seed)[0] < round(256 * share) else "train"


def split_of_clips(names: Iterable[str], seed: int = 0, share: float = 0.1) -> dict[str, Split]:
    """:func:`split_of_clip` of several; where that holds none out, the first in the order of
    sha256 is, unless it is the only one.
    """
    sides: dict[str, Split] = {name: split_of_clip(name, seed, share) for name in names}
    if len(sides) > 1 and "validation" not in sides.values():
        sides[min(sides, key=lambda name: _name_hash(name, seed))] = "validation"
    return sides


def split_of_speakers(
    speakers: Iterable[str], seed: int = 0, share: float = 0.1, held_out: Iterable[str] = ()
) -> dict[str, Split]:
    """By speaker: ``held_out`` by name, or a share of them (at least one) in the order of
    sha256 of seed and name.

    Raises :class:`~kfusion.errors.DataError` for an unknown name, for nobody left to train on,
    and for fewer than two speakers, whom :func:`split_of_clips` is for.
    """
    everyone, chosen = sorted(set(speakers)), sorted(set(held_out))
    if len(everyone) < 2:
        raise DataError(f"a split by speaker of {len(everyone)} speakers; wanted two or more")
    if unknown := [s for s in chosen if s not in everyone]:
        raise DataError(f"held-out speakers {', '.join(unknown)} are not in the data")
    if not chosen:
        order = sorted(everyone, key=lambda s: _name_hash(s, seed))
        chosen = order[: max(1, round(share * len(everyone)))]
    if len(chosen) == len(everyone):
        raise DataError("every speaker is held out; wanted at least one to train on")
    return {s: "validation" if s in chosen else "train" for s in everyone}


def check_no_leak(speakers: Mapping[Split, set[str]], recordings: Mapping[Split, set[str]]) -> None:
    """Raises :class:`LeakError` naming who, or which recordings (sha256), are on both sides."""
    for what, sides in (("speakers", speakers), ("recordings", recordings)):
        both = sorted(sides["train"] & sides["validation"])
        if both:
            raise LeakError(
                f"{what} {', '.join(both[:5])} are both trained on and held out; "
                "wanted each on one side"
            )
