import json
from collections.abc import Iterator
from dataclasses import replace
from math import isnan
from pathlib import Path

import numpy as np
import pytest

from kfusion.emotion import displacement, vector
from kfusion.errors import DataError
from kfusion.landmarks import NEUTRAL, Similarity
from kfusion.runtime import Animator, SyntheticEngine
from tests.conftest import voice
from training.corpus.clips import Clip
from training.scores import scoring
from training.scores.legacy import Legacy
from training.scores.metrics import clip_metrics
from training.scores.scoring import (
    Model,
    Result,
    constant_face,
    mean_displacement,
    read_closures,
    references,
    rounded_truth,
    score_predictor,
    score_predictors,
)


def clip_of(seed: int, emotion: str | None = None, seconds: float = 1.3) -> Clip:
    """Sound, and a face that a similarity takes from the canonical one and that follows it."""
    sound = voice(seconds, seed=seed)
    own = Similarity(np.array([[0.8, -0.1], [0.1, 0.8]]), np.array([20.0, 5.0])).apply(NEUTRAL)
    points = Animator(SyntheticEngine()).animate(sound, 16_000, identity=own)
    points = np.concatenate([np.repeat(own[None], 8, axis=0), points[8:]])
    return Clip(f"clip{seed}", sound, points.astype(np.float64), "someone", emotion)


@pytest.fixture(scope="module")
def animator() -> Animator:
    return Animator(SyntheticEngine())


def test_the_label_is_given_only_where_asked_for(animator: Animator) -> None:
    clip = clip_of(2, "happy")
    plain = Model(animator, 3, 3)(clip)
    labelled = Model(animator, 3, 3, labelled=True)(clip)
    assert np.array_equal(plain, animator.animate(clip.audio, 16_000, identity=clip.identity))
    assert np.abs(labelled - plain).max() > 1
    # The label is that of training: a way from the speaker's neutral face, where it is known.
    own = clip.identity + np.linspace(0, 3, 68)[:, None]
    known = replace(clip, neutral=own)
    with_label = animator.animate(clip.audio, 16_000, emotion={"happy": 1.0}, identity=own)
    np.testing.assert_array_equal(Model(animator, 3, 3, labelled=True)(known), with_label)
    assert np.array_equal(Model(animator, 3, 3)(known), plain)
    for emotion in (None, "neutral"):
        clip = clip_of(2, emotion)
        assert np.array_equal(Model(animator, 3, 3, labelled=True)(clip), plain)


def test_the_best_constant_is_the_mean_of_all_frames_in_canonical_pixels() -> None:
    smile = displacement(vector({"happy": 1.0}))
    clips: list[Clip] = []
    for scale, share, count in ((1.0, 0.0, 10), (2.0, 1.0, 30)):
        own = NEUTRAL * scale
        points = np.repeat(own[None], 20 + count, axis=0)
        points[20:] += share * scale * smile  # open enough to be no frame at rest
        points[20:, 65:68, 1] += 9 * scale * share
        clips.append(Clip(f"{scale}", voice(1.0), points))
    found = mean_displacement(clips)
    expected = smile + np.zeros((68, 2))
    expected[65:68, 1] += 9
    np.testing.assert_allclose(found, expected * 30 / 80, atol=0.02)
    moved = constant_face(clips[1], found)[0] - clips[1].identity
    np.testing.assert_allclose(moved, 2 * found, atol=1e-9)


def test_means_are_over_clips_and_closures_over_all_of_them() -> None:
    clips = [clip_of(4), clip_of(5, seconds=2.2)]
    closures = {"clip4": [(0.0, 0.1)], "clip5": [(0.0, 0.1), (0.1, 0.2)]}
    result = score_predictor(clips, lambda c: constant_face(c, 0.0), closures)
    row, each = result.row, result.clips
    assert [s.name for s in each] == ["clip4", "clip5"]
    assert row["m_ld"] == pytest.approx(np.mean([s.metrics.m_ld for s in each]))
    alone = clip_metrics(constant_face(clips[1], 0.0), clips[1].points, clips[1].identity)
    assert each[1].metrics.f_lvd == pytest.approx(alone.f_lvd)
    assert (row["closure_recall"], sum(s.metrics.closures for s in each)) == (1, 3)
    assert row["closure_precision"] < 1  # always shut
    assert isnan(row["abs_lag"])


def test_clips_are_read_once_for_all_rows() -> None:
    names: list[str] = []

    def clips() -> Iterator[Clip]:
        for k in range(3):
            names.append(f"clip{k}")
            yield clip_of(k)

    results = score_predictors(clips(), references(np.ones((68, 2))))
    assert list(results) == ["copy identity", "best constant", "still at own mean", "floor"]
    assert names == ["clip0", "clip1", "clip2"]
    rows = {name: result.row for name, result in results.items()}
    assert 0 < rows["floor"]["f_ld"] < 1
    assert rows["still at own mean"]["centred"] == pytest.approx(1)
    assert 0 < rows["still at own mean"]["ratio"] < 1
    assert rows["copy identity"]["ratio"] == pytest.approx(1)
    assert "best constant" not in references(None)


def test_scores_are_the_same_with_clips_in_groups(
    animator: Animator, monkeypatch: pytest.MonkeyPatch
) -> None:
    clips = [clip_of(k) for k in range(5)]
    predictors = {"model": Model(animator), "floor": rounded_truth}
    whole = score_predictors(clips, predictors)
    alone = [score_predictor([clip], predictors["model"]).clips[0] for clip in clips]
    assert whole["model"].clips == alone
    legacy = Legacy()
    for clip in clips:
        legacy.add(rounded_truth(clip), clip.points)
    assert 0 < whole["floor"].row["legacy_f_ld"] == legacy.row["legacy_f_ld"]
    monkeypatch.setattr(scoring, "GROUP_S", 2)
    assert [len(group) for group in scoring.grouped(clips)] == [2, 2, 1]
    again = score_predictors(clips, predictors)
    assert [again[name].clips for name in again] == [whole[name].clips for name in whole]


def test_scores_are_kept_in_json_and_give_the_same_figures(animator: Animator) -> None:
    clips = [clip_of(1), replace(clip_of(2, "happy"), level=2)]
    result = score_predictor(clips, Model(animator, labelled=True))
    again = Result.from_json(json.loads(json.dumps(result.json, allow_nan=False)))
    assert [(c.name, c.speaker, c.emotion, c.level, c.frames) for c in again.clips] == [
        (c.name, c.speaker, c.emotion, c.level, c.frames) for c in result.clips
    ]
    assert again.row == pytest.approx(result.row, abs=1e-5, nan_ok=True)
    older = json.loads(json.dumps(result.json))
    del older["clips"]["gain"]
    with pytest.raises(TypeError):
        Result.from_json(older)


def test_no_clips_are_an_error_that_says_so() -> None:
    with pytest.raises(DataError, match="no clips"):
        score_predictors([], references(None))
    with pytest.raises(DataError, match="no clips"):
        mean_displacement([])


def test_of_a_table_of_phones_p_b_and_m_are_read(tmp_path: Path) -> None:
    table = tmp_path / "phones.tsv"
    lines = ["a\t0.5\t0.6\tB", "a\t0.6\t0.7\tAH", "b\t1\t1.1\tM", "a\t2\t2.1\tP"]
    table.write_text("clip\tstart_s\tend_s\tphone\n" + "\n".join(lines) + "\n")
    assert read_closures(table) == {"a": [(0.5, 0.6), (2.0, 2.1)], "b": [(1.0, 1.1)]}
