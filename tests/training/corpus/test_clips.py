"""The face at rest of a clip, and how older corpora are told apart."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from kfusion.errors import DataError
from kfusion.landmarks import NEUTRAL, align, lip_gap
from tests.training.corpora import one_speaker
from training.corpus.clips import face_at_rest
from training.corpus.format import Corpus


def opened(gap: float) -> NDArray[np.float64]:
    """The canonical face with its lower lip ``gap`` pixels down."""
    face = NEUTRAL.copy()
    face[[65, 66, 67], 1] += gap
    return face


def turned(
    face: NDArray[np.float64], degrees: float, scale: float, x: float
) -> NDArray[np.float64]:
    a = np.radians(degrees)
    rotation = scale * np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]])
    return (face - 128) @ rotation.T + 128 + (x, 0)


def test_a_head_that_moves_does_not_smear_the_face_at_rest() -> None:
    """A tenth of the frames has its lips shut, each with the head in another place."""
    rng = np.random.default_rng(0)
    frames = [
        turned(
            opened(0.0 if k % 10 == 0 else 4 + rng.random()),
            20 * rng.standard_normal(), 1 + 0.1 * rng.standard_normal(), 15 * rng.standard_normal(),
        )
        for k in range(200)
    ]  # fmt: skip
    rest = face_at_rest(np.stack(frames))
    np.testing.assert_allclose(align(rest[None], NEUTRAL)[0], NEUTRAL, atol=1e-6)
    smeared = np.median(np.stack(frames)[::10], axis=0)
    assert np.abs(align(smeared[None], NEUTRAL)[0] - NEUTRAL).max() > 1


def test_the_face_at_rest_lies_where_its_frames_lie() -> None:
    frames = np.stack([turned(opened(0.1 * k), 5, 0.8, 20) for k in range(50)])
    rest = face_at_rest(frames)
    assert abs(float(lip_gap(rest)) - 0.8 * 0.2 * np.cos(np.radians(5))) < 0.02
    np.testing.assert_allclose(rest[:48], frames[0][:48], atol=1e-6)


def test_a_small_head_is_not_taken_for_a_shut_mouth() -> None:
    """The gap is that of aligned frames: a face half as large has half the gap in pixels."""
    near = [turned(opened(3.0), 0, 1.0, 0) for _ in range(20)]
    far = [turned(opened(5.0), 0, 0.5, 0) for _ in range(20)]
    rest = align(face_at_rest(np.stack(far + near))[None], NEUTRAL)[0]
    assert abs(float(lip_gap(rest)) - 3.0) < 1e-6


def test_a_corpus_with_unaligned_faces_at_rest_is_to_be_prepared_again(tmp_path: Path) -> None:
    one_speaker(tmp_path)
    header = tmp_path / "corpus.json"
    header.write_text(header.read_text().replace("kfusion-corpus-2", "kfusion-corpus-1"))
    with pytest.raises(DataError, match="not aligned; wanted 'kfusion-corpus-2': prepare it again"):
        Corpus(tmp_path)
