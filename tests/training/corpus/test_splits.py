"""Who is held out: laws of the split, and what a leak says."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kfusion.errors import DataError
from training.corpus.splits import (
    split_of_clip,
    split_of_clips,
    split_of_speakers,
)

NAMES = st.lists(st.text(min_size=1, max_size=8), min_size=2, max_size=40, unique=True)


@given(NAMES, st.integers(0, 99), st.floats(0.0, 0.5))
def test_every_speaker_is_on_one_side_and_neither_side_is_empty(
    names: list[str], seed: int, share: float
) -> None:
    split = split_of_speakers(names, seed, share)
    assert set(split) == set(names) and set(split.values()) == {"train", "validation"}
    held_out = sum(side == "validation" for side in split.values())
    assert held_out == max(1, round(share * len(names)))
    assert split_of_speakers(names[::-1] + names, seed, share) == split


def test_other_seeds_hold_out_others() -> None:
    names = [f"speaker{k}" for k in range(40)]
    assert len({str(split_of_speakers(names, seed)) for seed in range(8)}) == 8
    clips = [f"clip{k}" for k in range(400)]
    sides = [[split_of_clip(c, seed) for c in clips] for seed in (0, 0, 1)]
    assert sides[0] == sides[1] != sides[2]
    assert 20 <= sides[0].count("validation") <= 60  # a tenth of 400


@given(NAMES, st.integers(0, 99), st.floats(0.0, 0.5))
def test_of_a_few_clips_one_is_held_out_and_of_many_those_that_are_drawn(
    names: list[str], seed: int, share: float
) -> None:
    split = split_of_clips(names, seed, share)
    drawn = {n: split_of_clip(n, seed, share) for n in names}
    if "validation" in drawn.values():
        assert split == drawn
    else:
        assert list(split.values()).count("validation") == 1
    assert split_of_clips(names[::-1], seed, share) == split
    assert split_of_clips(names[:1], 0, 0.0) == {names[0]: "train"}


def test_speakers_can_be_held_out_by_name() -> None:
    split = split_of_speakers(["a", "b", "c"], held_out=["b"])
    assert split == {"a": "train", "b": "validation", "c": "train"}
    with pytest.raises(DataError, match="speakers d are not in the data"):
        split_of_speakers(["a", "b"], held_out=["d"])
    with pytest.raises(DataError, match="at least one to train on"):
        split_of_speakers(["a", "b"], held_out=["a", "b"])
    with pytest.raises(DataError, match="two or more"):
        split_of_speakers(["a", "a"])
