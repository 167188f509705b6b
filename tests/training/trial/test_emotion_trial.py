from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from kfusion.emotion import articulation, displacement, vector
from kfusion.errors import DataError
from kfusion.landmarks import NEUTRAL
from kfusion.runtime import Animator, SyntheticEngine
from tests.conftest import folder_of
from tests.training.tracks import small_data, write_points
from training.trial.emotion import (
    MEASURES,
    measure,
    measures_of,
    real_changes,
    real_swings,
    sign_checks,
    table_changes,
)
from training.trial.model import TrialModel


def change(points: list[int], x: float, y: float) -> dict[str, float]:
    """What moving points of the canonical face does to the figures that change."""
    face = NEUTRAL.copy()
    face[points] += x, y
    moved = measures_of(face) - measures_of(NEUTRAL)
    return {n: float(v) for n, v in zip(MEASURES, moved, strict=True) if abs(v) > 1e-9}


def test_each_figure_is_of_its_own_points_and_up_is_positive() -> None:
    assert change(list(range(17, 27)), 0, -2) == pytest.approx({"brow height": 2})
    assert change([21], 3, 0) == pytest.approx({"brow distance": -3})
    assert change([54], 4, 0) == pytest.approx({"mouth width": 4})
    assert change([48, 54], 0, -1.5) == pytest.approx({"corner height": 1.5})
    assert change([40, 41, 46, 47], 0, -1) == pytest.approx({"eye opening": -1})
    assert change([57, 66, 8], 0, 9) == {}


def test_the_synthetic_engine_does_what_the_table_says(tmp_path: Path) -> None:
    section = measure(TrialModel(Animator(SyntheticEngine()), small_data(tmp_path)))
    found = {c.name: c for c in section.checks}
    assert found["happy: mouth width"].low > 0
    assert found["angry: brow height"].high < 0
    assert all(c.holds for name, c in found.items() if "fall" not in name)
    assert found["angry: fall of lip correlation"].value == pytest.approx(0, abs=1e-6)
    assert found["half sad: share of its corner height"].value == pytest.approx(0.5, abs=0.02)
    rows = section.tables[0].records
    happy = next(r for r in rows if (r["emotion"], r["figure"]) == ("happy", "mouth width"))
    full = table_changes()["happy"][MEASURES.index("mouth width")]
    assert happy["model at 1"] == pytest.approx(full, rel=0.02)
    assert happy["at 0.5"] == pytest.approx(full / 2, rel=0.02)
    mixed = next(r for r in rows if r["emotion"].startswith("mixture"))
    both = measures_of(NEUTRAL + displacement(vector({"happy": 0.5, "surprised": 0.5})))
    assert mixed["model at 1"] == pytest.approx((both - measures_of(NEUTRAL))[0], abs=0.05)


def opening(size: float) -> NDArray[np.float64]:
    """A canonical face whose lower lip goes down and up, (20, 68, 2)."""
    faces = np.repeat(NEUTRAL[None], 20, axis=0)
    faces[:, [65, 66, 67], 1] += size * (1 + np.sin(np.arange(20)))[:, None]
    return faces


def test_swings_are_measured_against_the_own_neutral_clip(tmp_path: Path) -> None:
    data = small_data(tmp_path)
    folder = data / "mead_expressions"
    for emotion, size in {"neutral": 4.0, "angry": 6.0, "sad": 2.0, "fear": 4.1}.items():
        write_points(folder / f"W001_front_{emotion}_level3_001.npz", opening(size))
    found = {e: swings["W001"] for e, swings in real_swings(folder).items()}
    assert found["angry"] == pytest.approx(1.5, abs=0.02)
    assert found["sad"] == pytest.approx(0.5, abs=0.02)
    # The synthetic mouth swings alike in every emotion: what is clear in real faces, it lacks.
    checks = {c.name: c for c in measure(TrialModel(Animator(SyntheticEngine()), data)).checks}
    assert "fear: swing of the lips" not in checks
    for emotion, low, high in (("angry", 1.02, np.inf), ("sad", -np.inf, 0.98)):
        check = checks[f"{emotion}: swing of the lips"]
        assert (check.low, check.high) == pytest.approx((low, high))
        assert check.value == pytest.approx(1, abs=0.02) and not check.holds


def test_lips_that_never_move_have_no_swing_to_compare_with(tmp_path: Path) -> None:
    swings = real_swings(small_data(tmp_path) / "mead_expressions")
    assert all(np.isnan(v) for of_one in swings.values() for v in of_one.values())


def test_a_speaker_without_a_neutral_clip_is_named(tmp_path: Path) -> None:
    write_points(tmp_path / "M007_front_happy_level3_001.npz", np.repeat(NEUTRAL[None], 3, axis=0))
    with pytest.raises(DataError, match="M007 has no neutral clip"):
        real_changes(tmp_path)
    with pytest.raises(DataError, match="SPEAKER_front_EMOTION"):
        real_changes(tmp_path / "voices")


@pytest.mark.data
def test_the_table_changes_a_face_as_tracked_faces_agree() -> None:
    checks = list(sign_checks(table_changes(), real_changes(folder_of("mead_expressions"))))
    assert len(checks) == 15 and all(check.holds for check in checks)


@pytest.mark.data
def test_articulation_grows_where_that_of_tracked_faces_does() -> None:
    for name, of_speakers in real_swings(folder_of("mead_expressions")).items():
        share = float(articulation(vector({name: 1.0})))
        if min(of_speakers.values()) > 1:
            assert 0 < share <= max(of_speakers.values()) - 1, name
        else:  # some grow and some fall
            assert abs(share) <= 0.1 and max(of_speakers.values()) > 1, name
